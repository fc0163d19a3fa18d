"""The commands of docs/serving.md, as they stand there, against vLLM's own server on loopback."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make vllm-env, then make test-vllm")

from servers import free_port, running

from thinkedit.chat import Chat
from thinkedit.engines.base import Request, Sampling
from thinkedit.engines.openai import OpenAIEngine
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.loading import load_tokenizer
from thinkedit.models import ModelSource, find_model
from thinkedit.pipeline.edit import current_edit
from thinkedit.pipeline.run import Run
from thinkedit.pipeline.steer import find_direction
from thinkedit.records import read_records
from thinkedit.steering import sweep
from thinkedit.tasks import load_questions

DOCUMENT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
GREEDY = Sampling(max_tokens=64, temperature=0.0, top_p=1.0)
TINY = find_model("tiny")
QUICK = ["run", "--quick", "--probes", "400", "--questions", "8", "--n-samples", "1", "--no-steering", "--no-scan"]
# A CPU machine starts vLLM faster so, and its adapters work with any number of threads.
SETTINGS = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}


def documented(heading: str) -> list[list[str]]:
    """The commands under a heading of the document, without the name of the program: those that make and serve, mostly."""
    block = re.search(rf"## {heading}\n.*?```sh\n(.*?)```", DOCUMENT, re.S)
    return [shlex.split(line)[1:] for line in block.group(1).strip().splitlines()]


def thinkedit(*arguments, cwd, code=0, **environment):
    """Runs the command line as a user would; gives what it said."""
    command = [sys.executable, "-m", "thinkedit", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, env=os.environ | environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with a small finished run of the embedded model in `runs/tiny`."""
    place = tmp_path_factory.mktemp("serving")
    thinkedit(*QUICK, cwd=place)
    return place


@pytest.fixture(scope="module")
def chat():
    return Chat(load_tokenizer(TINY))


@pytest.fixture(scope="module")
def requests(chat):
    questions = load_questions("tiny", "dev", limit=24)
    return [Request(i, tuple(chat.prompt_ids(q.text)), seed=i, question=q.text) for i, q in enumerate(questions)]


def answers(engine, requests):
    return {done.key: done.token_ids for done in engine.generate(requests, GREEDY)}


def serving(workplace, serve, port):
    """A server, started by the document's command but for the port; float32, as the engine that it is compared with."""
    serve = [str(TINY.path) if part == "BASE" else part for part in serve]
    serve[serve.index("--port") + 1] = str(port)
    return running([sys.executable, *serve, "--dtype", "float32"], port, workplace / "home", cwd=workplace, **SETTINGS)


def served(workplace, chat, requests, serve, *names):
    """What the server answers under each of its models' names."""
    port, found = free_port(), []
    with serving(workplace, serve, port):
        for name in names:
            engine = OpenAIEngine(f"http://127.0.0.1:{port}/v1", chat, name)
            assert engine.continues
            found.append(answers(engine, requests))
            engine.close()
    return found


def same(left, right):
    return sum(left[key] == right[key] for key in left)


@pytest.fixture(scope="module")
def plain(chat):
    return TransformersEngine(TINY, chat.end_ids)


def test_an_edited_checkpoint(workplace, chat, requests, plain):
    make, serve = documented("An edited checkpoint")
    thinkedit(*make, cwd=workplace)
    (found,) = served(workplace, chat, requests, serve, "edited")
    with Run("tiny", workplace / "runs" / "tiny") as run:
        plain.apply(current_edit(run))
    wanted = answers(plain, requests)
    plain.apply(None)
    assert same(found, wanted) >= len(wanted) - 1


def test_base_and_adapter_from_one_server(workplace, chat, requests, plain):
    make, serve = documented("The edit as an adapter")
    thinkedit(*make, cwd=workplace)
    base, edited = served(workplace, chat, requests, serve, "base", "edited")
    assert same(base, answers(plain, requests)) >= len(base) - 1
    with Run("tiny", workplace / "runs" / "tiny") as run:
        plain.apply(current_edit(run))
    assert same(edited, answers(plain, requests)) >= len(base) - 1
    plain.apply(None)
    assert same(base, edited) < len(base)


def test_a_steered_checkpoint(workplace, chat, requests, plain):
    make, serve = documented("A steered model")
    thinkedit(*make, cwd=workplace)
    (found,) = served(workplace, chat, requests, serve, "steered")
    alpha = float(make[make.index("--steer") + 1])
    with Run("tiny", workplace / "runs" / "tiny") as run:
        direction = find_direction(run, "attn")
    (setting,) = sweep("attn", [alpha], range(4), 4)
    base = answers(plain, requests)
    plain.steer(setting.biases(direction))
    wanted = answers(plain, requests)
    plain.steer(None)
    assert same(found, wanted) >= len(wanted) - 1
    assert same(found, base) < len(base)
    loaded = TransformersEngine(ModelSource("steered", workplace / "steered"), chat.end_ids)
    assert same(answers(loaded, requests), wanted) >= len(wanted) - 1
    steered = load_tokenizer(ModelSource("steered", workplace / "steered"))
    for question in load_questions("tiny", "dev", limit=24):
        assert steered(question.text).input_ids == chat.tokenizer(question.text).input_ids


def test_an_evaluation_survives_the_death_of_its_server(workplace):
    """The server is killed while answers come and stays away for longer than the client waits; both are started again."""
    (evaluate,), (make, serve) = documented("Evaluating what is served"), documented("The edit as an adapter")
    thinkedit(*make, cwd=workplace)
    port, out = free_port(), workplace / "runs" / "tiny" / "evaluate"
    evaluate[evaluate.index("--base-url") + 1] = f"http://127.0.0.1:{port}/v1"
    evaluate += ["--limit", "40", "--n-samples", "2", "--concurrency", "2"]
    before = set(out.glob("*.jsonl"))
    with serving(workplace, serve, port) as server:
        client = subprocess.Popen(
            [sys.executable, "-m", "thinkedit", *evaluate], cwd=workplace, stderr=subprocess.PIPE, text=True
        )
        while client.poll() is None and not set(out.glob("*.jsonl")) - before:
            time.sleep(0.02)
        assert client.poll() is None
        server.kill()
        _, said = client.communicate(timeout=200)
    assert client.returncode == 1
    assert "does not answer" in said
    assert "the same command goes on from there" in said
    kept = [record for file in set(out.glob("*.jsonl")) - before for record in read_records(file)]
    with serving(workplace, serve, port):
        thinkedit(*evaluate, cwd=workplace)
    records = [record for file in set(out.glob("*.jsonl")) - before for record in read_records(file)]
    counts = Counter((record.edit, *record.key) for record in records)
    assert 0 < len(kept) < len(counts) == 2 * 2 * 40
    assert set(counts.values()) == {1}


def test_a_sweep_of_seventeen_strengths_and_a_scan_load_the_model_once(workplace):
    """vLLM's own log says how often it loaded one."""
    strengths = [option for step in range(17) for option in ("--direction-weight", f"{0.05 * (step - 8):.2f}")]
    steer = ("steer", "--engine", "vllm", "--control", "attn", "--limit", "4")
    for options in (strengths, ["--layers", "each"]):
        log = thinkedit(*steer, *options, cwd=workplace, VLLM_LOGGING_LEVEL="INFO")
        assert log.count("Starting to load model") == 1
    alphas = {record.alpha for file in (workplace / "runs" / "tiny" / "steer").glob("*attn*") for record in read_records(file)}
    assert len(alphas) >= 17


def test_every_step_runs_on_vllm(tmp_path):
    said = thinkedit(*QUICK[:2], "--probes", "300", "--questions", "10", "--n-samples", "1", "--placebos", "1",
                     "--engine", "vllm", cwd=tmp_path)  # fmt: skip
    assert "answered" in said or "rushed" in said or "evaluation" in said
    records = [r for file in (tmp_path / "runs" / "tiny").glob("*/*.jsonl") for r in read_records(file)]
    assert {(r.control, r.edit) for r in records} >= {(None, None), ("attn", None), ("mlp", None), (None, "edited")}
    keys = [(r.task, r.question_id, r.sample, r.control, r.alpha, r.layer, r.edit, len(r.prompt_ids)) for r in records]
    assert len(keys) == len(set(keys))
