"""Hostile and broken input as a user meets it, through the commands: it works, or one message and exit code 1 or 2."""

import json
import shutil

import pytest
import torch
from fuzzing import broken_bytes, broken_value, law, write_json
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import OPENED_TEMPLATE, byte_tokenizer
from safetensors.torch import load_file, save_file

from thinkedit import template_trial
from thinkedit.artifacts.hub import plan_push
from thinkedit.artifacts.verify import compare
from thinkedit.directions import load_direction
from thinkedit.engines.base import Control
from thinkedit.errors import ThinkEditError
from thinkedit.files import LONGEST_LINE, read_json, read_json_lines
from thinkedit.pipeline.analyze import analyze_directory
from thinkedit.pipeline.card import refresh_card
from thinkedit.pipeline.documents import read_manifest
from thinkedit.pipeline.edit import build_edit, current_edit
from thinkedit.pipeline.gather import gather
from thinkedit.pipeline.heads import rank
from thinkedit.pipeline.run import Run
from thinkedit.pipeline.steer import find_direction
from thinkedit.records import Record, read_records
from thinkedit.report.summary import summarise
from thinkedit.report.table import Table, to_rich
from thinkedit.tiny import MODEL_DIR

SHORT = ("--limit", 2, "--max-tokens", 4)
CONTROLS: tuple[Control, ...] = ("attn", "mlp")


def refused(done, words: str, code: int = 1) -> None:
    """One short message that says what is wrong, and no traceback."""
    assert done.code == code, done.out + done.error
    assert done.error.startswith("Error: ")
    assert words in " ".join(done.error.split()), done.error
    assert "Traceback" not in done.error
    assert "fault of thinkedit" not in done.error
    assert len(done.error) < 1500


@pytest.fixture
def model(checkpoint, tmp_path):
    """A model of one's own to spoil."""
    return shutil.copytree(checkpoint("llama"), tmp_path / "model")


def questions(path, *texts):
    path.write_text("".join(json.dumps({"question": text, "answer": "1"}) + "\n" for text in texts))
    return path


# ------------------------------------------------------------------------------------------------------------ models


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hidden_size": 10**12}, "no model has"),
        ({"num_hidden_layers": 10**9}, "no model has"),
        ({"num_attention_heads": -4}, "no model has"),
        ({"vocab_size": 60_000_000}, "do not fit their config.json"),
        ({"intermediate_size": 10**9}, "do not fit their config.json"),
        ({"num_hidden_layers": 7}, "missing in 4 of 7 layers"),
        ({"head_dim": 1e400}, "decoder must say"),
        ({"rope_parameters": "x"}, "cannot be loaded"),
    ],
)
def test_sizes_that_lie_are_refused_before_memory_is_asked_for(model, thinkedit, tmp_path, changed, words):
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    data = questions(tmp_path / "q.jsonl", "What is 1?")
    refused(thinkedit("generate", "--model", model, "--out", tmp_path / "r", "--dataset", data, *SHORT), words)


def test_a_config_that_makes_infinities_is_refused(model, thinkedit, tmp_path):
    """Attention on a CPU hides them from a short probe; they end in an index error while sampling."""
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_parameters": {"rope_type": "default", "rope_theta": 0}}))
    data = questions(tmp_path / "q.jsonl", "What is 1?")
    words = f"The config of {model} makes infinities or NaN in model.rotary_emb.inv_freq: a number in it is broken."
    refused(thinkedit("generate", "--model", model, "--out", tmp_path / "r", "--dataset", data, *SHORT), words)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(model, thinkedit, tmp_path, number):
    weights = load_file(model / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.weight"][0] = number
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    data = questions(tmp_path / "q.jsonl", "What is 1?")
    refused(thinkedit("generate", "--model", model, "--out", tmp_path / "r", "--dataset", data, *SHORT), "infinities or NaN")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "does not come to an end"),
        (
            "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "does not come to an end",
        ),
        ("{% generation %}{{ '%9999999999d' % 3 }}{% endgeneration %}", "does not come to an end"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "The chat template fails"),
        ("{{ raise_exception('only with a system prompt') }}", "only with a system prompt"),
        ("{{ messages[0].__class__.__mro__ }}", "The chat template fails"),
        ("{% for", "The chat template fails"),
    ],
    ids=["loops", "grows", "pads", "recurses", "raises", "climbs", "torn"],
)
def test_chat_templates_that_loop_grow_or_raise(model, thinkedit, tmp_path, template, words):
    (model / "chat_template.jinja").write_text(template)
    data = questions(tmp_path / "q.jsonl", "What is 1?")
    refused(thinkedit("generate", "--model", model, "--out", tmp_path / "r", "--dataset", data, *SHORT), words)


def test_sound_templates_are_tried_once_and_pass():
    assert template_trial.fault(OPENED_TEMPLATE) is None
    assert template_trial.fault("{% generation %}{{ bos_token }}{% endgeneration %}", (("bos_token", "<s>"),)) is None
    tried = template_trial.fault.cache_info().misses
    assert template_trial.fault(OPENED_TEMPLATE) is None
    assert template_trial.fault.cache_info().misses == tried


def test_of_several_think_tokens_the_usual_ones_count(model, thinkedit, tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<thinking>", "</thinking>"])
    tokenizer.save_pretrained(model)
    data = questions(tmp_path / "q.jsonl", "What is 1?")
    where = ("--model", model, "--dataset", data, *SHORT)
    assert thinkedit("generate", *where, "--out", tmp_path / "a").code == 0
    assert thinkedit("generate", *where, "--out", tmp_path / "b", "--think-tags", "<thinking>", "</thinking>").code == 0
    tags = [{tuple(r.tags) for p in (tmp_path / run / "probe").iterdir() for r in read_records(p)} for run in ("a", "b")]
    assert tags == [{("<think>", "</think>")}, {("<thinking>", "</thinking>")}]


def test_a_tokenizer_with_more_tokens_than_the_model_is_noticed(model, thinkedit, tmp_path):
    """An id beyond the embeddings ends a CPU's run in an index error and a GPU's in an assertion of its driver."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"<x{i}>" for i in range(40)])
    tokenizer.save_pretrained(model)
    data = questions(tmp_path / "q.jsonl", "What is 1?")
    assert thinkedit("generate", "--model", model, "--dataset", data, *SHORT, "--out", tmp_path / "a").code == 0
    questions(data, "What is <x39>?")
    done = thinkedit("generate", "--model", model, "--dataset", data, *SHORT, "--out", tmp_path / "b")
    refused(done, "The tokenizer writes <x39> as token 300, but the model has 272: it is not this model's.")
    (found,) = [c for c in json.loads(thinkedit("doctor", model, "--json").out)["checks"] if c["name"] == "tokenizer"]
    assert (found["state"], found["found"][:50]) == ("warning", "29 of its 301 tokens are none of the model's 272: ")


# ----------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "command",
    [
        ("steer", "--direction-weight", 0.1),
        ("generate", "--temperature"),
        ("generate", "--repetition-penalty"),
        ("extract", "--short-quantile"),
        ("edit", "--strength"),
        ("export", "--steer"),
        ("evaluate", "--strength"),
        ("regrade", "--timeout"),
    ],
)
def test_what_is_no_number_is_refused_before_anything_is_done(thinkedit, tmp_path, command, number):
    done = thinkedit(*command, number, "--out", tmp_path / "run")
    option = next(word for word in command if str(word).startswith("--"))
    refused(done, f"{option} {number} makes no sense: a finite number is expected.", code=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("temperature", [-1, 1e-300])
def test_temperatures_that_mean_nothing_are_refused(thinkedit, tmp_path, temperature):
    done = thinkedit("generate", "--temperature", temperature, "--limit", 1, "--out", tmp_path / "run")
    refused(done, "Expected: temperature 0 (greedy) or at least 1e-05", code=2)


# -------------------------------------------------------------------------------------------------------- directions


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """Every document of a run, made with little work on the embedded model."""
    from thinkedit.pipeline.edit import edit_heads
    from thinkedit.pipeline.evaluate import evaluate
    from thinkedit.pipeline.extract import extract

    place = tmp_path_factory.mktemp("whole")
    rows = [{"question": f"Bob has {i} stickers. How many?", "response": "6 so " * (3 + i) + "</think> 4"} for i in range(40)]
    (place / "responses.json").write_text(json.dumps(rows))
    with Run("tiny", place / "run") as run:
        extract(run, place / "responses.json")
        rank(run)
        edit_heads(run, n_heads=1, adapter=True)
        edit_heads(run, n_heads=1)
        evaluate(run, limit=2, samples=1, max_tokens=8, placebos=0)
    analyze_directory(place / "run")
    return place / "run"


@pytest.mark.parametrize("temperature", [0, 0.6])
def test_a_direction_that_is_added_far_too_strongly_makes_no_answers(whole_run, thinkedit, tmp_path, temperature):
    run = shutil.copytree(whole_run, tmp_path / "run")
    done = thinkedit("steer", "--direction-weight", 1e30, "--temperature", temperature, *SHORT, "--out", run)
    refused(done, "infinities or NaN instead of a next token")


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (torch.full((4, 128), torch.nan), "finite"),
        (torch.full((4, 128), torch.inf), "finite"),
        (torch.ones(4, 127), "belongs to another model"),
        (torch.ones(128), "expected finite numbers [layers, hidden]"),
        (torch.ones(0, 128), "belongs to another model"),
        (torch.ones(4, 128, dtype=torch.int32), "plain numbers"),
    ],
    ids=["nan", "inf", "narrow", "flat", "empty", "integers"],
)
@pytest.mark.parametrize("command", [("steer", "--control", "attn", *SHORT), ("edit", "--heads", "0:1")])
def test_directions_that_are_none(whole_run, thinkedit, tmp_path, vectors, words, command):
    save_file({"direction": vectors}, tmp_path / "d.safetensors", {"control": "attn"})
    out = shutil.copytree(whole_run, tmp_path / "run")
    refused(thinkedit(command[0], "--out", out, *command[1:], "--direction", tmp_path / "d.safetensors"), words)


def test_a_direction_of_length_zero_edits_and_steers_nothing(whole_run, thinkedit, tmp_path):
    save_file({"direction": torch.zeros(4, 128)}, tmp_path / "d.safetensors", {"control": "attn"})
    out = shutil.copytree(whole_run, tmp_path / "run")
    done = thinkedit("edit", "--out", out, "--heads", "0:1", "--direction", tmp_path / "d.safetensors")
    refused(done, "norm 0: nothing can be removed along it")
    done = thinkedit("steer", "--out", out, "--control", "attn", "--direction", tmp_path / "d.safetensors", *SHORT)
    refused(done, "it points nowhere")


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(1).expand(10**6, 10**6),
        torch.ones(4, 128).to_sparse(),
        {"a": torch.ones(2)},
        torch.ones(4, 128, dtype=torch.cfloat),
    ],
    ids=["larger than its file", "sparse", "no tensor", "complex"],
)
def test_published_files_that_hold_something_else(tmp_path, value):
    path = tmp_path / "m_thinking_length_direction_gsm8k_attn.pt"
    torch.save(value, path)
    with pytest.raises(ThinkEditError):
        load_direction(path)


# --------------------------------------------------------------------------------------------------- responses, tasks


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"token_ids": [3, 10**9]}, "token id 1000000000, but this model has"),
        ({"token_ids": [-1]}, "token_ids is not of the kind"),
        ({"token_ids": "3"}, "token_ids is not of the kind"),
        ({"text": "something else"}, "do not spell the text"),
        ({"status": "perhaps"}, "status is not of the kind"),
        ({"sample": True}, "sample is not of the kind"),
    ],
)
def test_token_ids_of_others_are_checked(thinkedit, tmp_path, changed, words):
    from thinkedit.chat import Chat
    from thinkedit.loading import load_tokenizer
    from thinkedit.models import find_model

    chat = Chat(load_tokenizer(find_model("tiny")))
    ids = chat.encode("6 + 1 = 7</think> 7")
    record = {"task": "t", "question_id": "q", "question": "?", "gold": "7", "sample": 0, "status": "closed"}
    record |= {"prompt_ids": chat.prompt_ids("Bob has 6 stickers."), "token_ids": ids, "text": chat.decode(ids)}
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(record) + "\n" + json.dumps(record | changed) + "\n")
    refused(thinkedit("extract", "--out", tmp_path / "run", "--responses", path), "line 2: ")
    assert words in " ".join(thinkedit("extract", "--out", tmp_path / "run", "--responses", path).error.split())


def test_a_line_without_an_end_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as file:
        file.write(b'{"question": "')
        file.truncate(1 << 36)  # 64 GB, of which the disk holds nothing
    with pytest.raises(ThinkEditError, match=f"longer than {LONGEST_LINE >> 20} MB"):
        list(read_json_lines(path))


UNICODE = [
    "What is \u202e1 + 1\u202c?",  # right to left
    "\x1b[31mred\x1b[0m \x07 \x9b1m",  # what a terminal obeys
    "[bold red]x[/] [link=file:///etc]y[/link]",  # what rich obeys
    "<script>alert(1)</script></title>",
    "e\u0301\u0302\u0303 \u0928\u093f \U0001f468\u200d\U0001f469\u200d\U0001f467",  # combining
    "nul \0 and \ufeff and \ufffe and \U0010ffff",
    "\u2028line\u2029separators\x85",
    "<think> already </think> <｜User｜> <｜Assistant｜><think>",
]


def test_questions_of_every_kind_are_asked_shown_and_reported(checkpoint, thinkedit, tmp_path):
    data = questions(tmp_path / "evil\x1b[31m [bold]x.jsonl", *UNICODE)
    out = tmp_path / "run"
    where = ("--model", checkpoint("llama"), "--out", out)
    done = thinkedit("generate", *where, "--dataset", data, "--max-tokens", 4)
    assert done.code == 0, done.error
    shown = [done, thinkedit("analyze", *where)]
    (path,) = (out / "probe").glob("*.jsonl")
    assert {record.question for record in read_records(path)} == {text.strip() for text in UNICODE}
    shown.append(thinkedit("generate", *where, "--dataset", tmp_path / "\x1b[2Jnone.jsonl"))
    for done in shown:
        assert not set(done.out + done.error) & set("\x1b\x07\x9b\0\u202e\u2028")
    page = (out / "report" / "index.html").read_text()
    assert "<script>alert(1)</script>" not in page


def test_half_a_character_is_named(thinkedit, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "a\\ud800b", "answer": "1"}\n')
    refused(thinkedit("generate", "--out", tmp_path / "r", "--dataset", path), "half of a surrogate pair")
    path.write_text('{"question": "a", "response": "b\\ud800</think>"}\n')
    refused(thinkedit("extract", "--out", tmp_path / "r", "--responses", path), "line 1: ")


@pytest.mark.parametrize("text", ["", "   ", "\u3000\t\n"])
def test_empty_questions_are_named_by_row(thinkedit, tmp_path, text):
    data = questions(tmp_path / "q.jsonl", "What is 1?", text)
    refused(thinkedit("generate", "--out", tmp_path / "r", "--dataset", data), "row 2: the question is empty")


def test_tables_on_the_terminal_show_hostile_names_as_text(capsys):
    from rich.console import Console

    table = Table("t", "title \x1b[2J", ["a \x1b[31m", "b"], [["[bold]x[/] \u202e", "\x9b"]], "note \x07")
    Console().print(to_rich(table))
    shown = capsys.readouterr().out
    assert "[bold]x[/]" in shown
    assert not set(shown) & set("\x1b\x07\x9b\u202e")


# ---------------------------------------------------------------------------------------------- documents of a run

DOCUMENTS = ["run.json", "edit.json", "heads.json", "summary.json"]


@pytest.fixture(scope="module")
def spoiled(whole_run, tmp_path_factory):
    return shutil.copytree(whole_run, tmp_path_factory.mktemp("spoiled") / "run")


def use(directory):
    """What the commands do with the documents that earlier ones left, each by itself."""

    def open_run():
        return Run(None, directory)

    def with_run(step):
        with open_run() as run:
            step(run)

    return [
        lambda: read_manifest(directory),
        lambda: summarise(gather(directory)),
        lambda: with_run(current_edit),
        lambda: with_run(lambda run: build_edit(run, None, 1, 1.0, None)),
        lambda: with_run(lambda run: [find_direction(run, control) for control in CONTROLS]),
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
@given(data=st.data())
@settings(max_examples=max(5, settings().max_examples // 12))  # each one goes through a run's steps
def test_documents_with_other_content(whole_run, spoiled, name, data):
    for document in DOCUMENTS:
        shutil.copyfile(whole_run / document, spoiled / document)
    write_json(spoiled / name, data.draw(broken_value(read_json(whole_run / name))))
    for step in use(spoiled):
        with law():
            step()


@pytest.mark.parametrize("name", ["activations.safetensors", "direction-attn.safetensors", "direction-mlp.safetensors"])
@given(data=st.data())
@settings(max_examples=max(5, settings().max_examples // 12))
def test_arrays_that_are_damaged(whole_run, spoiled, name, data):
    for document in [*DOCUMENTS, "activations.safetensors", "direction-attn.safetensors", "direction-mlp.safetensors"]:
        shutil.copyfile(whole_run / document, spoiled / document)
    whole = (whole_run / name).read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    (spoiled / name).write_bytes(data.draw(broken_bytes(whole[:begin])) + whole[begin:])
    for step in use(spoiled):
        with law():
            step()


@pytest.mark.parametrize("product", ["edited", "adapter"])
@given(data=st.data())
@settings(max_examples=max(10, settings().max_examples // 3))
def test_edited_models_with_other_content(whole_run, spoiled, product, data):
    """What is verified, pushed and given a card may come from anywhere."""
    shutil.rmtree(spoiled)
    place = shutil.copytree(whole_run, spoiled) / product
    path = data.draw(st.sampled_from(sorted(path for path in place.iterdir() if path.suffix != ".safetensors")))
    if path.suffix == ".json" and data.draw(st.booleans()):
        write_json(path, data.draw(broken_value(read_json(path))))
    else:
        path.write_bytes(data.draw(broken_bytes(path.read_bytes())))
    for step in (
        lambda: compare(MODEL_DIR, place),
        lambda: plan_push(place, "me/model", private=True),
        lambda: refresh_card(place),
    ):
        with law():
            step()


def test_paths_in_a_manifest_do_not_leave_the_directory(spoiled, whole_run):
    manifest = read_json(whole_run / "run.json")
    next(iter(manifest["steps"]["evaluate"]["files"].values()))["path"] = "../../secret.jsonl"
    write_json(spoiled / "run.json", manifest)
    with pytest.raises(ThinkEditError, match="path of evaluate"):
        analyze_directory(spoiled)


def test_what_is_checked_of_a_record_covers_all_of_it():
    from thinkedit.records import FIELDS, KINDS

    assert set(KINDS) == set(FIELDS) == set(Record.__slots__)
