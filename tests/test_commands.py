"""Every command as a user calls it: on the embedded model, on random checkpoints, and with bad input."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from random_models import make_checkpoint
from safetensors.torch import load_file, save_file
from typer.main import get_command

from thinkedit.cli.arguments import normalise
from thinkedit.cli.common import load_commands
from thinkedit.records import read_records

COMMANDS = tuple(sorted(get_command(load_commands()).commands))
TINY_RUN = ("--quick", "--probes", "200", "--questions", "16", "--n-samples", "2")


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """A whole small run of the embedded model."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    command = [sys.executable, "-m", "thinkedit", "run", *TINY_RUN, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


class TestTheWholeRun:
    def test_it_leaves_every_file(self, tiny_run):
        out, _ = tiny_run
        names = ("run.json", "activations.safetensors", "direction-attn.safetensors", "direction-mlp.safetensors")
        for name in (*names, "heads.json", "heads.png", "edit.json", "summary.json", "report/index.html"):
            assert (out / name).stat().st_size > 0, name
        for step in ("probe", "steer", "evaluate"):
            assert all(read_records(path) for path in (out / step).glob("*.jsonl")), step
        base = json.loads((out / "run.json").read_text())
        assert set(base["steps"]) == {"generate", "extract", "steer", "scan", "heads", "edit", "evaluate", "analyze"}

    def test_it_says_what_changed_and_what_to_do_next(self, tiny_run):
        said = tiny_run[1]
        text = " ".join(said.split())
        assert "What the edit changed" in text
        assert "report/index.html" in text.replace(" ", "").replace("\n", "")
        assert "evaluate --n-samples 10" in text

    def test_a_second_call_generates_nothing_and_changes_no_figure(self, tiny_run, thinkedit):
        out, _ = tiny_run
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*.jsonl")}
        summary = json.loads((out / "summary.json").read_text())
        assert thinkedit("run", *TINY_RUN, "--out", out).code == 0
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*.jsonl")} == before
        assert json.loads((out / "summary.json").read_text()) == summary

    def test_more_samples_extend_the_old_records(self, tiny_run, thinkedit, tmp_path):
        out = shutil.copytree(tiny_run[0], tmp_path / "run")
        (base,) = (out / "evaluate").glob("tiny-base-*.jsonl")
        before = base.read_bytes()
        assert thinkedit("evaluate", "--out", out, "--n-samples", 3, "--limit", 16, "--placebos", 0).code == 0
        assert base.read_bytes().startswith(before)
        assert len({record.key for record in read_records(base)}) == len(read_records(base)) == 48

    def test_a_killed_run_ends_with_the_same_records(self, tiny_run, tmp_path):
        out = shutil.copytree(tiny_run[0], tmp_path / "run")
        whole = {path.name: {r.key: r.token_ids for r in read_records(path)} for path in out.rglob("*.jsonl")}
        for path in out.rglob("*.jsonl"):
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2])
        command = [sys.executable, "-m", "thinkedit", "run", *TINY_RUN, "--out", str(out)]
        assert subprocess.run(command, capture_output=True, timeout=600).returncode == 0
        again = {path.name: {r.key: r.token_ids for r in read_records(path)} for path in out.rglob("*.jsonl")}
        assert again == whole

    def test_doses_are_evaluated_in_one_load(self, tiny_run, thinkedit, tmp_path):
        out = shutil.copytree(tiny_run[0], tmp_path / "run")
        done = thinkedit(
            "evaluate", "--out", out, "--n-heads", "1", "2", "--strength", "0.5", "1", "--placebos", 0, "--limit", 4
        )
        assert done.code == 0
        assert len(list((out / "evaluate").glob("tiny-edited-n=*"))) == 4

    def test_splits_and_settings_never_mix_in_a_report(self, tiny_run, thinkedit, tmp_path):
        out = shutil.copytree(tiny_run[0], tmp_path / "run")
        small = ("--out", out, "--limit", 4, "--n-samples", 2)
        assert thinkedit("evaluate", *small, "--split", "test", "--placebos", 0).code == 0
        assert thinkedit("analyze", "--out", out).code == 0
        arms = json.loads((out / "summary.json").read_text())["evaluation"]["tiny"]["arms"]
        assert {name: arm["questions"] for name, arm in arms.items()} == {"base": 4, "edited": 4}

    def test_one_layer_does_not_pass_for_all(self, tiny_run, thinkedit, tmp_path):
        out = shutil.copytree(tiny_run[0], tmp_path / "run")
        steer = ("steer", "--out", out, "--control", "attn", "--direction-weight", "0.1", "--limit", 4)
        assert thinkedit(*steer, "--layer", 2).code == 0
        (path,) = (out / "steer").glob("tiny-attn-L2-+0.1-*")
        assert {record.layer for record in read_records(path)} == {2}

    def test_another_model_is_kept_out(self, tiny_run, thinkedit, checkpoint):
        done = thinkedit("generate", "--out", tiny_run[0], "--model", checkpoint("llama"))
        assert done.code == 1
        assert "belongs to tiny" in done.error


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_every_step_on_a_random_checkpoint(checkpoint, thinkedit, tmp_path, architecture):
    questions = tmp_path / "questions.jsonl"
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(30)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    responses = tmp_path / "responses.jsonl"
    made = [{"question": r["question"], "response": "so " * (3 + i) + "</think> 4"} for i, r in enumerate(rows)]
    made += [{"question": "?", "response": "never closed"}]
    responses.write_text("".join(json.dumps(row) + "\n" for row in made))
    where = ("--model", checkpoint(architecture), "--out", tmp_path / "run")
    short = ("--dataset", questions, "--limit", 3, "--max-tokens", 12)
    assert thinkedit("generate", *where, *short).code == 0
    extracted = thinkedit("extract", *where, "--responses", responses)
    assert extracted.code == 0, extracted.error
    assert "31 responses; 1 left out: 1 unclosed" in extracted.out
    assert thinkedit("steer", *where, *short, "--direction-weight", "-0.5", "0.5").code == 0
    assert thinkedit("steer", *where, *short, "--layers", "each", "--control", "thinking_length_attn").code == 0
    assert thinkedit("heads", *where).code == 0
    assert thinkedit("edit", *where, "--n-heads", 2).code == 0
    assert thinkedit("evaluate", *where, *short, "--n-samples", 2, "--placebos", 1).code == 0
    assert thinkedit("analyze", *where).code == 0
    edited = load_file(tmp_path / "run" / "edited" / "model.safetensors")
    base = load_file(checkpoint(architecture) / "model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], edited[name])}
    heads = json.loads((tmp_path / "run" / "edit.json").read_text())["heads"]
    assert changed == {f"model.layers.{layer}.self_attn.o_proj.weight" for layer, _ in heads}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_that_parses(thinkedit, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = thinkedit(command, "--help")
    assert done.code == 0
    examples = re.findall(r"\$ (thinkedit .*)", done.out)
    assert examples
    app = load_commands()
    for example in examples:
        arguments, _ = normalise(shlex.split(example)[1:])
        get_command(app).commands[arguments[0]].make_context(command, arguments[1:])  # raises on what it does not know


def test_the_papers_spellings_are_understood():
    wanted = ["steer", "--direction-weight", "-0.1", "--direction-weight", "0.1", "--control", "mlp", "--layers", "3"]
    given = [
        "steer",
        "--direction_weight",
        "-0.1",
        "0.1",
        "--control",
        "thinking_length_mlp",
        "--layer",
        "3",
        "--debug",
    ]
    assert normalise(given) == (wanted, True)
    assert normalise(["generate", "--vllm"])[0] == ["generate", "--engine", "vllm"]
    assert normalise(["run", "--n-heads", "5", "tiny"])[0] == ["run", "--n-heads", "5", "tiny"]
    assert normalise(["steer", "--direction-weight", "--limit", "3"])[0] == ["steer", "--direction-weight", "--limit", "3"]


def remove_tokenizer(path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).unlink()


class TestBadInput:
    def expect(self, done, code: int, words: str) -> None:
        assert done.code == code, done.error
        assert re.search(words, " ".join(done.error.split())), done.error
        assert "Traceback" not in done.error
        assert len(done.error) < 1500

    def test_a_model_without_a_tokenizer(self, thinkedit, tmp_path):
        remove_tokenizer(make_checkpoint(tmp_path / "m"))
        self.expect(thinkedit("generate", "--model", tmp_path / "m", "--out", tmp_path / "r"), 1, "no tokenizer")

    def test_a_model_without_think_tokens(self, thinkedit, tmp_path):
        make_checkpoint(tmp_path / "m", think=False)
        self.expect(
            thinkedit("generate", "--model", tmp_path / "m", "--out", tmp_path / "r", "--dataset", "tiny"),
            1,
            "--think-tags",
        )

    def test_an_unknown_model_without_a_network(self, thinkedit, tmp_path):
        self.expect(thinkedit("generate", "--model", "nobody/nothing", "--out", tmp_path / "r"), 1, "could not be fetched")
        self.expect(thinkedit("generate", "--model", "no-such-model", "--out", tmp_path / "r"), 2, "Short names")
        assert not (tmp_path / "r").exists()

    def test_a_dataset_without_the_columns(self, thinkedit, tmp_path):
        (tmp_path / "x.csv").write_text("ask,say\n1,2\n")
        done = thinkedit("generate", "--out", tmp_path / "r", "--dataset", tmp_path / "x.csv")
        self.expect(done, 1, "ask, say|ask.*say")

    def test_an_unknown_dataset(self, thinkedit, tmp_path):
        self.expect(thinkedit("generate", "--out", tmp_path / "r", "--dataset", "gsm9k"), 2, "gsm8k")

    def test_a_torn_responses_file(self, thinkedit, tmp_path):
        (tmp_path / "x.jsonl").write_text('{"question": "a", "response": "b</think>"}\n{"question": "a", "resp')
        self.expect(thinkedit("extract", "--out", tmp_path / "r", "--responses", tmp_path / "x.jsonl"), 1, "line 2.*torn")

    def test_thresholds_that_leave_nothing(self, thinkedit, tmp_path, tiny_run):
        out = shutil.copytree(tiny_run[0], tmp_path / "run")
        before = (out / "direction-attn.safetensors").read_bytes()
        self.expect(thinkedit("extract", "--out", out, "--short", 1, "--long", 2), 1, "leave 0 short")
        assert (out / "direction-attn.safetensors").read_bytes() == before

    def test_a_head_out_of_range(self, thinkedit, tiny_run):
        self.expect(thinkedit("edit", "--out", tiny_run[0], "--heads", "9:0", "--to", tiny_run[0] / "x"), 2, "layers 0..3")
        self.expect(thinkedit("edit", "--out", tiny_run[0], "--heads", "many", "--to", tiny_run[0] / "x"), 2, "names no heads")
        assert not (tiny_run[0] / "x").exists()

    def test_a_direction_of_another_model(self, thinkedit, tiny_run, tmp_path):
        about = {"control": "attn", "fingerprint": "f" * 64, "model": "other"}
        save_file({"direction": torch.randn(4, 128)}, tmp_path / "d.safetensors", about)
        save_file({"direction": torch.randn(28, 1536)}, tmp_path / "e.safetensors", about)
        for file, words in (("d", "computed on another model"), ("e", "28x1536")):
            done = thinkedit("edit", "--out", tiny_run[0], "--direction", tmp_path / f"{file}.safetensors")
            self.expect(done, 1, words)

    def test_a_step_before_its_time(self, thinkedit, tmp_path):
        self.expect(thinkedit("heads", "--out", tmp_path / "r"), 1, "thinkedit extract")

    def test_options_that_make_no_sense(self, thinkedit, tmp_path):
        out = ("--out", tmp_path / "r")
        self.expect(thinkedit("generate", *out, "--temperature", -1, "--limit", 1), 2, "temperature")
        self.expect(thinkedit("generate", *out, "--prompt", "raw", "--limit", 1), 2, "--prompt template")
        self.expect(thinkedit("generate", *out, "--dataset", "tiny", "gsm8k"), 2, "one value")
        self.expect(thinkedit("generate", *out, "--limit", 0), 2, "limit")
        self.expect(thinkedit("steer", *out, "--control", "both"), 2, "attn, mlp")
        self.expect(thinkedit("analyze", *out), 1, "no results yet")
        self.expect(thinkedit("edit", *out, "--heads", "0:1", "--n-heads", 2), 2, "not both")
        assert thinkedit("edit", *out, "--strength", "0.5", "1").code == 2
        self.expect(thinkedit("generate", *out, "--device", "cuda"), 2, "CUDA|cuda") if not torch.cuda.is_available() else None


def test_help_is_instant():
    """No heavy library is imported for it (the time itself depends on the machine)."""
    heavy = ("torch", "transformers", "datasets", "matplotlib")
    listing = f"print([m for m in {heavy} if m in sys.modules])"
    code = f"import sys; from thinkedit.cli.common import load_commands; load_commands(); {listing}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "[]"
