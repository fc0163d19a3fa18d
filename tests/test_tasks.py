"""The benchmarks: every question has a stable id and a bare gold answer, from the hub and from local files alike."""

import csv
import json
import subprocess
import sys
import types
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.tasks import TASK_NAMES, get_task, load_questions, sources
from thinkedit.tasks.gsm8k import gold_number
from thinkedit.tasks.math import SELECTION, problem_hash
from thinkedit.tasks.selection import parse_selection

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the public evaluation sets are not here")

GSM8K_ROW = {"question": "Two robes at $600 each?", "answer": "2*600=<<2*600=1200>>1200\n#### $1,200"}
MMLU_ROW = {"question": "24 = 2p?", "subject": "elementary_mathematics", "choices": ["4", "8", "12", "24"], "answer": 2}
MATH_ROWS = [
    {"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": "It is $\\boxed{\\frac{4}{2}}$."},
    {
        "problem": "Half?",
        "level": "Level 5",
        "type": "Algebra",
        "solution": "First \\boxed{3}, then $\\boxed{\\sqrt 2}$.",
    },
    {"problem": "Three?", "level": "Level 5", "type": "Geometry", "solution": "So $\\fbox 3$."},
]
MATH_500_ROW = {
    "problem": "2+2?", "solution": "\\boxed{4}", "answer": "4", "subject": "Algebra", "level": 2,
    "unique_id": "test/algebra/7.json",
}  # fmt: skip


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the datasets package that serves `rows[hub_id]` and notes what was asked of it."""
    served = types.SimpleNamespace(rows={}, asked=[])

    def load_dataset(hub_id, *configs, split):
        served.asked.append((hub_id, *configs, split))
        if hub_id not in served.rows:
            raise ConnectionError(f"Couldn't reach {hub_id} on the Hub")
        rows = served.rows[hub_id]
        return rows.get(configs[0], []) if isinstance(rows, dict) else rows

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setattr(sources, "offline_if_unreachable", nullcontext)
    return served


# Names


@pytest.mark.parametrize("name", TASK_NAMES)
def test_every_task_is_found_under_its_name_however_it_is_written(name):
    assert get_task(name).name == name
    assert get_task(name.upper().replace("-", "_")) is get_task(name)
    assert get_task(name).default_split in get_task(name).splits


def test_an_unknown_name_lists_the_known_ones_and_the_closest():
    with pytest.raises(UsageError) as caught:
        get_task("gsm9k")
    assert "Did you mean gsm8k?" in str(caught.value)
    assert all(name in str(caught.value) for name in TASK_NAMES)
    assert ".csv" in str(caught.value)


def test_a_wrong_split_or_limit_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="train, dev, test"):
        load_questions("tiny", "validation")
    with pytest.raises(UsageError, match="at least 1"):
        load_questions("tiny", limit=0)
    with pytest.raises(UsageError, match="local files only"):
        load_questions("tiny", columns={"question": "problem"})


def test_importing_the_registry_imports_nothing_heavy():
    code = (
        "import sys, thinkedit.tasks, thinkedit.grading; "
        "heavy = ('torch', 'datasets', 'pandas', 'pyarrow', 'math_verify', 'sympy'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


# One benchmark after the other, from files


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        ("#### 18", "18"),
        ("#### 1,200", "1200"),
        ("#### $1,080.50", "1080.50"),
        ("#### -5", "-5"),
        ("#### -$5", "-5"),
        ("#### $-5", "-5"),
        ("#### \u22127", "-7"),
        ("#### .5", ".5"),
        ("x #### 3\n####  109,200,000\n", "109200000"),
    ],
)
def test_gsm8k_gold_is_read_with_commas_signs_decimals_and_dollars(solution, gold):
    assert gold_number(solution) == gold


def test_gsm8k_from_a_file(tmp_path):
    write_lines(tmp_path / "gsm8k_test.jsonl", [GSM8K_ROW])
    (question,) = load_questions("gsm8k", data_dir=tmp_path)
    assert (question.id, question.gold, question.form) == ("gsm8k/test/0", "1200", "number")
    asked = get_task("gsm8k").ask(question)
    assert asked.startswith(GSM8K_ROW["question"] + "\n")
    assert asked.endswith("within \\boxed{}.")


def test_gsm8k_without_a_gold_answer_names_the_row(tmp_path):
    write_lines(tmp_path / "gsm8k_test.jsonl", [GSM8K_ROW, {"question": "?", "answer": "none"}])
    with pytest.raises(ThinkEditError, match="row 2"):
        load_questions("gsm8k", data_dir=tmp_path)


def test_mmlu_asks_for_a_letter(tmp_path):
    write_lines(tmp_path / "mmlu_elementary_mathematics_test.jsonl", [MMLU_ROW])
    (question,) = load_questions("mmlu_elementary_math", data_dir=tmp_path)
    assert (question.gold, question.form, question.choices) == ("C", "choice", ("4", "8", "12", "24"))
    asked = get_task("mmlu_elementary_math").ask(question)
    assert "\nA. 4\nB. 8\nC. 12\nD. 24\n" in asked
    assert "(A, B, C or D) within \\boxed{}" in asked


def test_math_gold_is_the_last_box_of_the_solution(tmp_path):
    write_lines(tmp_path / "hendrycks_math_test.jsonl", MATH_ROWS)
    assert [(q.id, q.gold, q.group) for q in load_questions("MATH-level1", data_dir=tmp_path)] == [
        ("MATH/test/0", "\\frac{4}{2}", "Level 1")
    ]
    fifth = load_questions("MATH-level5", data_dir=tmp_path)
    assert [(q.id, q.gold, q.form) for q in fifth] == [
        ("MATH/test/1", "\\sqrt 2", "expression"),
        ("MATH/test/2", "3", "number"),
    ]


def test_math_500_keeps_its_ids(tmp_path):
    write_lines(tmp_path / "MATH-500" / "test.jsonl", [MATH_500_ROW])
    (question,) = load_questions("math_500", data_dir=tmp_path)
    assert (question.id, question.gold, question.group) == ("test/algebra/7.json", "4", "Level 2")


def test_easy2hard_is_grouped_by_thirds_of_the_rating(tmp_path):
    rows = [{"question": f"q{i}", "answer": f"#### {i}", "rating": rating} for i, rating in enumerate([0.9, 0.1, 0.5])]
    write_lines(tmp_path / "gsm8k-e2h" / "eval.jsonl", rows)
    assert [q.group for q in load_questions("gsm8k-e2h", data_dir=tmp_path)] == ["hard", "easy", "middle"]


def test_tiny_is_generated_and_asked_bare():
    questions = load_questions("tiny", "dev")
    assert len(questions) == 2000
    assert Counter(q.group for q in questions).keys() == {"rushed", "plain"}
    assert get_task("tiny").ask(questions[3]) == questions[3].text
    assert load_questions("tiny", "dev", limit=5) == questions[:5]


def test_missing_files_and_columns_are_named(tmp_path):
    with pytest.raises(ThinkEditError, match=r"gsm8k_test\.jsonl"):
        load_questions("gsm8k", data_dir=tmp_path)
    with pytest.raises(ThinkEditError, match="no directory"):
        load_questions("gsm8k", data_dir=tmp_path / "absent")
    write_lines(tmp_path / "gsm8k_test.jsonl", [GSM8K_ROW, {"question": "?", "response": "?"}])
    with pytest.raises(ThinkEditError, match=r"row 2: no answer.*found question, response"):
        load_questions("gsm8k", data_dir=tmp_path)


# The hub


def test_the_hub_gives_the_same_questions_as_files_do(hub, tmp_path):
    hub.rows = {
        "openai/gsm8k": [GSM8K_ROW],
        "cais/mmlu": [MMLU_ROW],
        "EleutherAI/hendrycks_math": {"algebra": MATH_ROWS[:2], "geometry": MATH_ROWS[2:]},
        "HuggingFaceH4/MATH-500": [MATH_500_ROW],
    }
    write_lines(tmp_path / "gsm8k_test.jsonl", [GSM8K_ROW])
    write_lines(tmp_path / "mmlu_elementary_mathematics_test.jsonl", [MMLU_ROW])
    write_lines(tmp_path / "hendrycks_math_test.jsonl", MATH_ROWS)
    write_lines(tmp_path / "math500_test.jsonl", [MATH_500_ROW])
    for name in ("gsm8k", "mmlu_elementary_math", "MATH-level1", "MATH-level5", "MATH-500"):
        assert load_questions(name) == load_questions(name, data_dir=tmp_path)
    assert ("openai/gsm8k", "main", "test") in hub.asked
    assert ("HuggingFaceH4/MATH-500", "test") in hub.asked
    subjects = [asked[1] for asked in hub.asked if asked[0] == "EleutherAI/hendrycks_math"]
    assert subjects[:7] == sorted(subjects[:7])
    assert len(set(subjects)) == 7


@pytest.mark.parametrize("name", [name for name in TASK_NAMES if name != "tiny"])
def test_without_a_network_the_error_names_the_data_set_and_the_files(hub, name):
    with pytest.raises(ThinkEditError) as caught:
        load_questions(name)
    assert hub.asked[0][0] in str(caught.value)
    assert "--data-dir" in str(caught.value)
    assert ".jsonl" in str(caught.value)


def test_an_unreachable_hub_is_found_out_quickly(monkeypatch):
    monkeypatch.setattr(sources, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(sources, "getproxies", dict)
    assert not sources.reachable("http://127.0.0.1:9")
    monkeypatch.setattr(sources, "getproxies", lambda: {"http": "http://proxy"})
    assert sources.reachable("http://127.0.0.1:9")


# The 140


def test_the_140_are_found_by_hash_wherever_they_stand(tmp_path, monkeypatch):
    rows = list(reversed(MATH_ROWS))
    write_lines(tmp_path / "hendrycks_math_test.jsonl", rows)
    wanted = [MATH_ROWS[1], MATH_ROWS[2]]
    selection = tmp_path / "selection.json"
    entries = [{"row": i, "sha256": problem_hash(row["problem"])} for i, row in enumerate(wanted)]
    selection.write_text(json.dumps({"problems": entries}))
    monkeypatch.setattr("thinkedit.tasks.math.SELECTION", selection)
    assert [q.gold for q in load_questions("MATH-level5-140", data_dir=tmp_path)] == ["\\sqrt 2", "3"]
    write_lines(tmp_path / "hendrycks_math_test.jsonl", MATH_ROWS[:2])
    with pytest.raises(ThinkEditError, match="1 of the 2 problems"):
        load_questions("MATH-level5-140", data_dir=tmp_path)


def test_a_problem_keeps_its_hash_when_its_white_space_changes():
    assert problem_hash("a  b\n c ") == problem_hash("a b c") != problem_hash("a b d")
    assert len(json.loads(SELECTION.read_text())["problems"]) == 140


# Local files


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_any_local_file_is_a_task(tmp_path, suffix):
    rows = [
        {"id": "a", "problem": "2+2?", "solution": "4", "level": "easy"},
        {"id": "b", "problem": "Root of 2?", "solution": "So \\boxed{\\sqrt2}", "level": "hard"},
    ]
    path = tmp_path / f"mine{suffix}"
    if suffix == ".jsonl":
        write_lines(path, rows)
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), path)
    questions = load_questions(str(path), columns={"question": "problem", "answer": "solution"})
    assert [(q.id, q.gold, q.form, q.group) for q in questions] == [
        ("a", "4", "number", "easy"),
        ("b", "\\sqrt2", "expression", "hard"),
    ]
    assert get_task(str(path)).name == "mine"


def test_choices_of_a_local_file_make_it_a_choice_task(tmp_path):
    row = {"question": "Even?", "choices": ["3", "8", "5"]}
    path = write_lines(tmp_path / "c.jsonl", [row | {"answer": answer} for answer in ("B", "b", 1, "8")])
    questions = load_questions(str(path))
    assert [q.gold for q in questions] == ["B"] * 4
    assert len({q.id for q in questions}) == 4
    assert "B. 8" in get_task(str(path)).ask(questions[0])
    path = tmp_path / "c.csv"
    path.write_text('question,answer,choices\nEven?,B,"[""3"", ""8""]"\n')
    assert load_questions(str(path))[0].choices == ("3", "8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"problem": "?", "answer": "4"}\n', "no column question; it has problem, answer"),
        ('{"question": "?", "answer": "4"}\n{"question": " ", "answer": "4"}\n', "row 2: the question is empty"),
        ('{"question": "?", "answer": null}\n', "row 1: the answer is empty"),
        ('{"question": "?", "answer": "4"}\n{"question"', "line 2: not valid JSON"),
        ('{"question": "?", "answer": "4", "id": 1}\n' * 2, "row 2: the id '1' was used before"),
        ('{"question": "?", "answer": "E", "choices": ["1", "2"]}\n', "no letter, index or text of a choice"),
        ('{"question": "?", "answer": "A", "choices": "1 or 2"}\n', "choices must be a JSON list"),
        ("", "no rows"),
    ],
)
def test_a_broken_local_file_is_one_clear_error(tmp_path, text, message):
    path = tmp_path / "broken.jsonl"
    path.write_text(text)
    with pytest.raises(ThinkEditError) as caught:
        load_questions(str(path))
    assert message in str(caught.value)


def test_other_broken_files_are_clear_errors_too(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_questions("absent.csv")
    (tmp_path / "wide.csv").write_text("question,answer\na,1,2\n")
    with pytest.raises(ThinkEditError, match="row 1: it has more fields"):
        load_questions(str(tmp_path / "wide.csv"))
    (tmp_path / "binary.csv").write_bytes(b"question,answer\n\xff\xfe,1\n")
    with pytest.raises(ThinkEditError, match="cannot be read"):
        load_questions(str(tmp_path / "binary.csv"))
    (tmp_path / "fake.parquet").write_bytes(b"not parquet")
    with pytest.raises(ThinkEditError, match="cannot be read"):
        load_questions(str(tmp_path / "fake.parquet"))
    (tmp_path / "one.json").write_text('{"question": "?"}')
    with pytest.raises(ThinkEditError, match="expected a list"):
        load_questions(str(tmp_path / "one.json"))


# The real data


@needs_data
@pytest.mark.parametrize(
    ("name", "split", "count"),
    [
        ("gsm8k", "train", 7473),
        ("gsm8k", "test", 1319),
        ("mmlu_elementary_math", "test", 378),
        ("MATH-500", "test", 500),
        ("MATH-level1", "test", 437),
        ("MATH-level5", "test", 1324),
        ("MATH-level5-140", "test", 140),
    ],
)
def test_the_real_benchmarks_are_complete(name, split, count):
    questions = load_questions(name, split, DATA)
    assert len(questions) == count == len({question.id for question in questions})
    assert all(question.text and question.gold for question in questions)


@needs_data
def test_math_500_golds_are_the_boxes_of_the_test_set():
    from thinkedit.grading.normal import normal

    everything = {
        " ".join(row["problem"].split()): row
        for row in map(json.loads, (DATA / "hendrycks_math_test.jsonl").read_text(encoding="utf-8").splitlines())
    }
    from thinkedit.grading.answers import last_box

    for question in load_questions("MATH-500", data_dir=DATA):
        row = everything[" ".join(question.text.split())]
        assert normal(question.gold) == normal(last_box(row["solution"]))
        assert question.group == row["level"]


@needs_data
def test_the_140_are_the_same_from_the_table_and_from_the_test_set(tmp_path):
    (tmp_path / "hendrycks_math_test.jsonl").symlink_to(DATA / "hendrycks_math_test.jsonl")
    from_test_set = load_questions("MATH-level5-140", data_dir=tmp_path)
    assert from_test_set == load_questions("MATH-level5-140", data_dir=DATA)
    rows = {entry["row"] for entry in json.loads(SELECTION.read_text())["problems"]}
    assert {int(question.id.rpartition("/")[2]) for question in from_test_set} == rows


# Which questions


def test_questions_are_chosen_by_count_or_by_id(tmp_path):
    ids = [question.id for question in load_questions("tiny", limit=parse_selection("3"))]
    assert ids == ["tiny/test/0", "tiny/test/1", "tiny/test/2"]
    for text in ("2,0", "tiny/test/2,tiny/test/0", "tiny/test/2,0,gsm8k/test/7"):
        chosen = load_questions("tiny", limit=parse_selection(text))
        assert [question.id for question in chosen] == ["tiny/test/0", "tiny/test/2"]
    assert [question.id for question in load_questions("tiny", limit=parse_selection("5,"))] == ["tiny/test/5"]
    many = [str(number) for number in range(2000)]  # more letters than the name of a file may have
    assert parse_selection(",".join(many)) == many


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ids.txt", "# hard ones\n0\n\ntiny/test/2\n"),
        ("ids.json", '["0", 2]'),
        ("ids.jsonl", '{"question_id": "tiny/test/0"}\n{"id": 2}'),
    ],
)
def test_a_file_of_ids_may_be_lines_a_list_or_records(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    chosen = load_questions("tiny", limit=parse_selection(str(tmp_path / name)))
    assert [question.id for question in chosen] == ["tiny/test/0", "tiny/test/2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("0", "at least 1"), ("-3", "at least 1"), (",", "No questions"), ("none.txt", "does not exist"),
     ("99999,", "no question '99999'"), ("gsm8k/test/1,gsm8k/test/2", "None of the 2")],
)  # fmt: skip
def test_a_choice_that_makes_no_sense_is_a_usage_error(text, message):
    with pytest.raises(UsageError, match=message):
        load_questions("tiny", limit=parse_selection(text))
