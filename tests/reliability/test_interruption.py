"""Runs that are stopped, run into each other, or lose their disk, as a user meets it: what is kept, and what is said."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from safetensors.torch import load_file, save_file

from thinkedit.records import read_records

PROBE = ("generate", "--batch-size", "1", "--out", "run")  # 2,000 answers one by one: minutes, to be met at work
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from thinkedit.cli import main
main()
"""


def probes(place):
    return list((place / "run" / "probe").glob("*.jsonl"))


@contextmanager
def at_work(place, *command):
    """The command in a process of its own, once it has written some answers."""
    call = [sys.executable, "-m", "thinkedit", *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # What a shell runs in the background ignores SIGINT, and so would its children.
    with subprocess.Popen(call, cwd=place, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes) as process:
        try:
            until = time.monotonic() + 300
            while not probes(place) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            assert process.poll() is None, process.communicate()
            yield process
        finally:
            process.kill()


def test_a_second_run_is_refused_and_an_interrupt_says_what_is_kept_and_how_to_go_on(tmp_path, thinkedit):
    with at_work(tmp_path, *PROBE) as process:
        process.send_signal(signal.SIGSTOP)  # it might be done before the second has started
        second = thinkedit("generate", "--limit", 1, "--out", tmp_path / "run")
        process.send_signal(signal.SIGCONT)
        assert second.code == 1
        assert f"in use by process {process.pid}" in second.error
        process.send_signal(signal.SIGINT)
        out, error = process.communicate()
    assert process.returncode == 130, out + error
    kept = len(read_records(*probes(tmp_path)))
    assert kept < 2000
    assert error == f"Error: Interrupted. run keeps {kept:,} answers.\nTo go on: thinkedit generate --batch-size 1 --out run\n"


def test_a_directory_that_is_removed_in_mid_run_is_said_to_be(tmp_path):
    with at_work(tmp_path, *PROBE) as process:
        shutil.rmtree(tmp_path / "run")
        _, error = process.communicate()
    assert process.returncode == 1
    assert "was removed or changed while this command was at work" in error


def test_a_full_disk_is_said_and_what_was_there_goes_on(tmp_path, thinkedit):
    """A limit on the size of files stands for the disk: a write fails in the middle of a line."""
    call = [sys.executable, "-c", LIMITED, "generate", "--limit", "200", "--out", "run"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Error: File too large: run\nWhat was finished is kept" in done.stderr
    (path,) = probes(tmp_path)
    kept = path.read_bytes()
    whole = kept[: kept.rfind(b"\n") + 1]
    assert len(kept) == 100_000
    assert thinkedit("generate", "--limit", 200, "--out", tmp_path / "run").code == 0
    assert path.read_bytes().startswith(whole)
    assert len({record.key for record in read_records(path)}) == 200


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to what is read-only")
def test_a_directory_that_is_read_only_is_named(tmp_path, thinkedit):
    (tmp_path / "run").mkdir(mode=0o500)
    done = thinkedit("generate", "--limit", 1, "--out", tmp_path / "run")
    assert done.code == 1
    assert done.error.startswith("Error: Permission denied: ")


def test_other_settings_data_and_models_are_never_mixed_and_the_difference_is_said(checkpoint, tmp_path, thinkedit):
    model, data, run = shutil.copytree(checkpoint("llama"), tmp_path / "m"), tmp_path / "q.jsonl", tmp_path / "run"
    data.write_text(json.dumps({"question": "What is 1 + 1?", "answer": "2"}) + "\n")
    where = ("generate", "--model", model, "--out", run, "--dataset", data)
    assert thinkedit(*where, "--max-tokens", 4).code == 0
    done = thinkedit(*where, "--max-tokens", 6, "--temperature", 0.5)
    assert "other settings than last time" in done.out
    assert "max_tokens 4 -> 6" in " ".join(done.out.split())
    assert "-> 0.5" in " ".join(done.out.split())
    assert [len(read_records(path)) for path in probes(tmp_path)] == [1, 1]
    data.write_text(json.dumps({"question": "What is 2 + 2?", "answer": "4"}) + "\n")
    done = thinkedit(*where, "--max-tokens", 6, "--temperature", 0.5)
    assert done.code == 1
    assert "The data has changed" in done.error
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    done = thinkedit(*where, "--max-tokens", 4)
    assert done.code == 1
    assert "weights, configuration or tokenizer have changed" in " ".join(done.error.split())
