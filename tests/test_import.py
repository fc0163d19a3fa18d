"""Records of others: what they hold is kept, what they do not know is not made up, and nothing of theirs is run."""

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest
from foreign import CAP, MODEL, QUESTIONS, archive, dump, evaluation, lm_eval, probe, response
from second_grader import agrees, numeric_answer

from thinkedit.errors import ThinkEditError
from thinkedit.files import read_json
from thinkedit.imports.thoughts import Reader, opened_by_prompt
from thinkedit.pipeline.bring import Asked, bring
from thinkedit.pipeline.gather import find_evidence, gather
from thinkedit.records import in_order, read_records


class TestThoughts:
    def test_a_template_opened_thought_is_told_by_closing_what_it_did_not_open(self):
        assert opened_by_prompt(["a</think>b", "c</think>d", "never closed"])[0]
        assert not opened_by_prompt(["<think>a</think>b", "no thought"])[0]

    @pytest.mark.parametrize(
        ("text", "length", "opened", "status", "tokens"),
        [
            ("<think>a</think>b", 7, False, "closed", 7),
            ("a</think>b", 7, True, "closed", 7),
            ("a</think>b", None, True, "closed", None),
            ("<think>a", None, False, "unclosed", None),
            ("<think>a", 100, False, "truncated", 100),
            ("still at it", None, True, "unclosed", None),
            ("no thought at all", -1, False, "absent", None),
            (None, -1, False, "absent", None),
            (None, 50, False, "closed", 50),
            (None, 100, False, "truncated", 100),
        ],
    )
    def test_status_and_length_are_what_the_file_says(self, text, length, opened, status, tokens):
        found = Reader(opened=opened, cap=100).read(text, length)
        assert (found.status, found.tokens) == (status, tokens)

    def test_a_forced_answer_is_told_from_the_thought(self):
        found = Reader(cap=CAP).read(response(3, True, CAP), CAP)
        assert found.status == "truncated"
        assert found.text == "<think>\nlet me see again"
        assert found.forced is not None
        assert found.forced.endswith("\\boxed{3}")

    def test_a_tokenizer_counts_as_everywhere_else(self):
        from thinkedit.chat import Chat
        from thinkedit.loading import load_tokenizer
        from thinkedit.models import find_model

        chat = Chat(load_tokenizer(find_model("tiny")))
        inside = "3+4=7."
        own = Reader(chat=chat).read(f"<think> {inside} </think> 7", None, "Tom has 3 toys.")
        opened = Reader(chat=chat, opened=True).read(f"{inside} </think> 7", None, "Tom has 3 toys.")
        assert own.tokens == len(chat.encode(f"<think> {inside} </think>"))
        assert opened.tokens == own.tokens + 1  # the template writes a line break behind the tag, and that counts
        assert opened.status == "closed"


class TestPublished:
    def test_an_archive_is_recognised_by_content_and_the_rest_is_listed(self, tmp_path):
        found = bring([archive(tmp_path / "a", (MODEL, "deepseek-llama3-8b"))], tmp_path / "out")
        assert [written.directory.name for written in found.written] == ["deepseek-llama3-8b", MODEL]
        assert {path.name for path in found.passed_over} == {"package.json", "pointer.json"}
        assert "LFS" in next(why for path, why in found.passed_over.items() if path.name == "pointer.json")
        evidence = gather(tmp_path / "out" / MODEL)
        assert set(evidence.evaluation) == {"gsm8k", "MATH-500"}
        assert list(evidence.evaluation["gsm8k"]) == ["base", "edited"]
        assert len(evidence.evaluation["gsm8k"]["base"]) == 10 * QUESTIONS
        assert {(r.control, r.alpha, r.layer) for r in evidence.steering} == {
            (control, alpha, None) for control in ("attn", "mlp") for alpha in (-0.08, 0.0, 0.08)
        }
        assert {r.layer for r in evidence.scan} == {0, 1}
        assert len(evidence.probe) == 20
        assert (tmp_path / "out" / MODEL / "direction-attn.safetensors").is_file()

    def test_statuses_lengths_and_verdicts_are_the_files(self, tmp_path):
        value = evaluation(0.6, 300, 1)
        path = dump(tmp_path / "gsm8k" / MODEL / "instruction_" / "results_samples10.json", value)
        bring([path], tmp_path / "out")
        records = read_records(tmp_path / "out" / "evaluate" / "gsm8k-base.jsonl")
        first = [record for record in records if record.sample == 0]
        run = value["sample_results"][0]
        assert [record.correct for record in first] == [bool(right) for right in run["correctness"]]
        assert [record.status for record in first[:3]] == ["truncated", "absent", "closed"]
        assert first[1].thinking_tokens is None
        assert [record.thinking_tokens for record in first[2:]] == run["think_lengths"][2:]
        assert all(record.token_ids == [] for record in records)

    def test_an_evaluation_without_texts_is_analysed_but_not_graded(self, tmp_path):
        path = dump(tmp_path / "mine.json", evaluation(0.6, 300, 1, texts=False))
        found = bring([path], tmp_path / "out", Asked(model="my", label="edited", task="gsm8k"))
        assert found.graded == 0
        assert "no texts" in found.written[0].pieces[0].notes[0]
        assert gather(tmp_path / "out").evaluation["gsm8k"]["edited"][0].edit == "edited"

    def test_steering_keeps_its_places_where_responses_were_dropped(self, tmp_path):
        bring([archive(tmp_path / "a")], tmp_path / "out")
        records = read_records(tmp_path / "out" / "steer" / "gsm8k-attn-0.08.jsonl")
        assert records[3].status == "absent"
        assert records[3].correct is None
        assert records[4].question == "question 4?"
        assert "question" not in records[4].text
        assert all(r.correct is (k % 2 == 0) for k, r in enumerate(records) if k != 3)

    def test_a_probe_can_be_extracted_from(self, tmp_path, thinkedit):
        path = dump(tmp_path / "responses" / f"{MODEL}_gsm8k.json", probe())
        bring([path], tmp_path / "out")
        records = read_records(tmp_path / "out" / "probe" / "gsm8k.jsonl")
        assert [record.status for record in records[:2]] == ["unclosed", "closed"]
        assert records[0].thinking_tokens is None
        assert records[1].thinking_tokens == 51

    def test_questions_and_golds_come_from_the_benchmarks_files(self, tmp_path, data_dir):
        rows = [json.loads(line) for line in (data_dir / "gsm8k_test.jsonl").read_text().splitlines()][:QUESTIONS]
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "gsm8k_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        value = evaluation(0.6, 300, 1, samples=2)
        path = dump(tmp_path / "gsm8k" / MODEL / "instruction_" / "r.json", value)
        found = bring([path], tmp_path / "out", Asked(data_dir=tmp_path / "data"))
        assert "gold answers are not those" in found.written[0].pieces[0].notes[-1]
        value["answers"] = [row["answer"].rpartition("#### ")[2] for row in rows]
        bring([dump(path, value)], tmp_path / "other", Asked(data_dir=tmp_path / "data"))
        record = gather(tmp_path / "other").evaluation["gsm8k"]["base"][0]
        assert record.question_id == "gsm8k/test/0"
        assert record.question == rows[0]["question"]

    def test_a_direction_that_would_run_code_is_refused(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        (tmp_path / "x_thinking_length_attn.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
        with pytest.raises(ThinkEditError, match="without running code"):
            bring([tmp_path / "x_thinking_length_attn.pt"], tmp_path / "out")
        assert not (tmp_path / "ran").exists()


class TestLmEval:
    def test_samples_keep_their_verdicts_and_join_the_base(self, tmp_path):
        bring([lm_eval(tmp_path / "edited", 0.8)], tmp_path / "out")
        base = lm_eval(tmp_path / "base", 0.4, "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B")
        bring([base], tmp_path / "out", Asked(model=MODEL))
        arms = gather(tmp_path / "out").evaluation["gsm8k"]
        assert {name: sum(bool(r.correct) for r in records) for name, records in arms.items()} == {"base": 12, "edited": 24}
        assert all(record.status == "closed" for record in arms["base"])
        assert arms["base"][0].gold == "0"

    def test_log_likelihoods_are_refused_with_the_reason(self, tmp_path):
        row = {"doc_id": 0, "doc": {"question": "a"}, "target": 1, "resps": [[["-1.2", "False"]]]}
        path = tmp_path / "samples_mmlu_2026-01-01.jsonl"
        path.write_text(json.dumps(row))
        with pytest.raises(ThinkEditError, match="log-likelihoods"):
            bring([path], tmp_path / "out")

    def test_what_we_export_comes_in_again(self, tmp_path):
        from made_up import evidence

        from thinkedit.report.lm_eval import write_lm_eval

        written = write_lm_eval(evidence(30, steering=False), tmp_path / "lm-eval", samples=True)
        assert [path.parent.name for path in written] == ["tiny__base", "tiny__edited"]
        bring([tmp_path / "lm-eval" / "tiny__base"], tmp_path / "out", Asked(model="tiny", label="base"))
        before = evidence(30, steering=False).evaluation["tiny"]["base"]
        after = gather(tmp_path / "out").evaluation["tiny"]["base"]
        assert {r.key: (r.text, r.gold) for r in after} == {r.key: (r.text, r.gold) for r in before}


class TestDirectories:
    def test_a_second_import_adds_and_a_run_is_left_alone(self, tmp_path):
        one = dump(tmp_path / "gsm8k" / MODEL / "r.json", evaluation(0.6, 300, 1))
        two = dump(tmp_path / "gsm8k" / f"ThinkEdit-{MODEL}" / "r.json", evaluation(0.6, 300, 1))
        bring([one], tmp_path / "out")
        bring([two], tmp_path / "out")
        assert list(gather(tmp_path / "out").evaluation["gsm8k"]) == ["base", "edited"]
        with pytest.raises(ThinkEditError, match="holds the evidence of"):
            bring([one], tmp_path / "out", Asked(model="other"))
        dump(tmp_path / "run" / "run.json", {"model": MODEL, "steps": {}})
        with pytest.raises(ThinkEditError, match="is a run of this program"):
            bring([one], tmp_path / "run")

    def test_two_files_for_one_arm_are_not_mixed(self, tmp_path):
        for name in "ab":
            dump(tmp_path / "in" / f"{name}.json", evaluation(0.6, 300, 1))
        with pytest.raises(ThinkEditError, match="--label"):
            bring([tmp_path / "in"], tmp_path / "out", Asked(task="gsm8k"))

    def test_nothing_to_import_says_what_was_expected(self, tmp_path):
        (tmp_path / "in").mkdir()
        dump(tmp_path / "in" / "a.json", {"some": "thing"})
        with pytest.raises(ThinkEditError, match="sample_results") as error:
            bring([tmp_path / "in"], tmp_path / "out")
        assert "a.json" in str(error.value)
        with pytest.raises(ThinkEditError, match="thinkedit import"):
            find_evidence([tmp_path / "in"])

    def test_broken_files_are_one_clear_error(self, tmp_path):
        bad = {"sample_results": [{"accuracy": 1, "think_lengths": [1, 2], "correctness": [1]}]}
        with pytest.raises(ThinkEditError, match="sample 1"):
            bring([dump(tmp_path / "a.json", bad)], tmp_path / "out")
        (tmp_path / "b.json").write_text("{")
        with pytest.raises(ThinkEditError, match="cannot be read"):
            bring([tmp_path / "b.json"], tmp_path / "out")


class TestRealResponses:
    """600 responses of DeepSeek-R1-Distill-Qwen-1.5B to GSM8K; the template opened every thought."""

    def test_they_are_imported_graded_and_analysed(self, tmp_path, data_dir, thinkedit):
        path = data_dir / "deepseek_r1_qwen1.5b_gsm8k_responses.jsonl"
        assert thinkedit("import", path, "--out", tmp_path / "out", "--model", MODEL).code == 0
        records = read_records(tmp_path / "out" / "evaluate" / "gsm8k-base.jsonl")
        assert len(records) == 600
        assert sum(record.status == "closed" for record in records) == 593
        assert sum(record.status == "unclosed" for record in records) == 7
        assert all(record.thinking_tokens is None for record in records)
        assert thinkedit("analyze", tmp_path / "out", "--published").code == 0
        arm = read_json(tmp_path / "out" / "summary.json")["evaluation"]["gsm8k"]["arms"]["base"]
        assert arm["accuracy"]["value"] == pytest.approx(472 / 600)
        assert "79.15" in (tmp_path / "out" / "report" / "tables.md").read_text()

    def test_a_second_grader_agrees_on_all_but_a_few(self, tmp_path, data_dir):
        path = data_dir / "deepseek_r1_qwen1.5b_gsm8k_responses.jsonl"
        bring([path], tmp_path / "out")
        records = read_records(tmp_path / "out" / "evaluate" / "gsm8k-base.jsonl")
        texts = [json.loads(line)["response"] for line in path.read_text(encoding="utf-8").splitlines()]
        differing = [
            (record.question_id, record.answer, record.gold, numeric_answer(text))
            for record, text in zip(records, texts, strict=True)
            if record.correct is not agrees(text, record.gold)
        ]
        print(differing)
        assert len(differing) <= 0.005 * len(records), differing


def test_records_of_ours_come_in_as_they_are(tmp_path):
    from made_up import arm

    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(asdict(record)) + "\n" for record in arm(20)))
    bring([path], tmp_path / "out", Asked(model="tiny"))
    assert gather(tmp_path / "out").evaluation["tiny"]["base"] == in_order(arm(20))
