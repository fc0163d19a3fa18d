"""The commands of docs/serving.md, as they stand there, against vLLM's own server on loopback."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make vllm-env, then make test-vllm")

from servers import free_port, running

from thinkedit.chat import Chat
from thinkedit.engines.base import Request, Sampling
from thinkedit.engines.openai import OpenAIEngine
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.models import ModelSource, find_model, load_tokenizer
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


def documented(heading: str) -> tuple[list[str], list[str]]:
    """The command that makes and the command that serves, under a heading of the document."""
    block = re.search(rf"## {heading}\n.*?```sh\n(.*?)```", DOCUMENT, re.S)
    make, serve = block.group(1).strip().splitlines()
    return shlex.split(make)[1:], shlex.split(serve)[1:]


def thinkedit(*arguments, cwd):
    command = [sys.executable, "-m", "thinkedit", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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


def served(workplace, chat, requests, serve, *names):
    """What the server answers under each of its models' names."""
    port = free_port()
    serve = [str(TINY.path) if part == "BASE" else part for part in serve]
    serve[serve.index("--port") + 1] = str(port)
    found = []
    with running([sys.executable, *serve, "--dtype", "float32"], port, workplace / "home", cwd=workplace, **SETTINGS):
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


def test_base_and_adapter_from_one_server_evaluated_through_it(workplace, chat, requests, plain):
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


def test_every_step_runs_on_vllm(tmp_path):
    said = thinkedit(*QUICK[:2], "--probes", "300", "--questions", "10", "--n-samples", "1", "--placebos", "1",
                     "--engine", "vllm", cwd=tmp_path)  # fmt: skip
    assert "answered" in said or "rushed" in said or "evaluation" in said
    records = [r for file in (tmp_path / "runs" / "tiny").glob("*/*.jsonl") for r in read_records(file)]
    assert {(r.control, r.edit) for r in records} >= {(None, None), ("attn", None), ("mlp", None), (None, "edited")}
    keys = [(r.task, r.question_id, r.sample, r.control, r.alpha, r.layer, r.edit, len(r.prompt_ids)) for r in records]
    assert len(keys) == len(set(keys))
