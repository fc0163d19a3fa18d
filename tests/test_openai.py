"""The engine that asks a server: against a real one on loopback, and against faults."""

import os
import subprocess
import sys
import time
from collections import Counter

import pytest
from servers import faulty, free_port, running, transformers_server

from thinkedit.chat import Chat
from thinkedit.engines import openai as module
from thinkedit.engines.base import Request, Sampling
from thinkedit.engines.openai import OpenAIEngine
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.loading import load_tokenizer
from thinkedit.models import find_model
from thinkedit.records import read_records

GREEDY = Sampling(max_tokens=48, temperature=0.0, top_p=1.0)
TINY = find_model("tiny")


@pytest.fixture(scope="module")
def chat():
    return Chat(load_tokenizer(TINY))


def requests(chat, count=8):
    questions = [f"alice has {3 + i} pens and buys {2 + i} more . how many pens ?" for i in range(count)]
    return [Request(i, tuple(chat.prompt_ids(text)), seed=i, question=text) for i, text in enumerate(questions)]


# ------------------------------------------------------------------------------------------------------ a real server


def test_a_servers_greedy_answers_are_the_transformers_engines(chat, tmp_path):
    port = free_port()
    with running(transformers_server(TINY.path, port), port, tmp_path):
        engine = OpenAIEngine(f"http://127.0.0.1:{port}/v1", chat, str(TINY.path))
        assert engine.continues
        found = {done.key: chat.decode(done.token_ids) for done in engine.generate(requests(chat), GREEDY)}
        engine.close()
    plain = TransformersEngine(TINY, chat.end_ids)
    end = chat.tokenizer.eos_token
    wanted = {done.key: chat.decode(done.token_ids).replace(end, "") for done in plain.generate(requests(chat), GREEDY)}
    assert {key: text.replace(end, "").strip() for key, text in found.items()} == {k: t.strip() for k, t in wanted.items()}


def test_a_server_that_dies_and_comes_back_leaves_every_question_answered_once(tmp_path):
    port, out = free_port(), tmp_path / "run"
    command = [sys.executable, "-m", "thinkedit", "evaluate", "--base-url", f"http://127.0.0.1:{port}/v1", "--out", str(out)]
    command += ["--served-model", str(TINY.path), "--limit", "24", "--n-samples", "2", "--concurrency", "2"]
    with running(transformers_server(TINY.path, port), port, tmp_path / "first"):
        client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
        while client.poll() is None and not any(out.glob("evaluate/*.jsonl")):
            time.sleep(0.05)
    assert client.poll() is None  # it has written some records, the server is gone, and it keeps trying
    with running(transformers_server(TINY.path, port), port, tmp_path / "second"):
        said, _ = client.communicate(timeout=400)
    assert client.returncode == 0, said
    (file,) = out.glob("evaluate/*.jsonl")
    counts = Counter(record.key for record in read_records(file))
    assert len(counts) == 48
    assert set(counts.values()) == {1}


# ------------------------------------------------------------------------------------------------------------- faults


def completion(text, finish="stop", **more):
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    return 200, {"id": "1", "object": "text_completion", "created": 1, "model": "m", "usage": usage,
                 "choices": [{"index": 0, "text": text, "finish_reason": finish, **more}]}  # fmt: skip


def message(finish="stop", **fields):
    return 200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m",
                 "choices": [{"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": finish}]}  # fmt: skip


def models(*names):
    return 200, {"object": "list", "data": [{"id": n, "object": "model", "created": 1, "owned_by": "x"} for n in names]}


@pytest.fixture
def quick(monkeypatch):
    """No waiting between the tries."""
    import openai._base_client as client

    monkeypatch.setattr(client.BaseClient, "_calculate_retry_timeout", lambda *_a, **_k: 0.01)
    monkeypatch.setattr(module, "RETRIES", 4)


def test_busy_and_failing_answers_are_tried_again(chat, quick):
    calls = Counter()

    def answer(path, body):
        if path.endswith("/models"):
            return models("m")
        calls[body["prompt"]] += 1
        status = {1: 429, 2: 500, 3: 503}.get(calls[body["prompt"]])
        return (status, {"error": {"message": "busy"}}) if status else completion("7")

    with faulty(answer) as url:
        engine = OpenAIEngine(url, chat)
        done = list(engine.generate(requests(chat, 3), GREEDY))
        engine.close()
    assert [chat.decode(one.token_ids) for one in done] == ["7"] * 3
    assert set(calls.values()) == {4}


def test_a_server_that_stays_away_is_named_in_one_message(chat, quick):
    with pytest.raises(ThinkEditError, match=r"does not answer.*Is it running\?\nWhat was finished is kept"):
        OpenAIEngine(f"http://127.0.0.1:{free_port()}/v1", chat, "m")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>hello</html>",
        b'{"choices": nope',
        b'{"choices": ' + b"[" * 100_000,
        b"\x00\xff",
        [1, 2],
        {},
        {"choices": []},
        {"choices": [{"text": 5}]},
    ],
)
def test_what_is_no_answer_is_named_in_one_message(chat, quick, body):
    """At the first contact, and where the server went wrong later."""
    good = 0

    def answer(path, _body):
        nonlocal good
        if path.endswith("/models"):
            return models("m")
        good -= 1
        return completion("7") if good >= 0 else (200, body)

    with faulty(answer) as url:
        if body != {"choices": [{"text": 5}]}:  # of the first answer the text is not looked at
            with pytest.raises(ThinkEditError, match=r"no answer of an OpenAI-compatible server.*/v1"):
                OpenAIEngine(url, chat)
        good = 1
        engine = OpenAIEngine(url, chat)
        with pytest.raises(ThinkEditError, match="no answer of an OpenAI-compatible server"):
            list(engine.generate(requests(chat, 2), GREEDY))
        engine.close()


@pytest.mark.parametrize("names", [("x", None), ("m", "x")])
def test_a_model_that_is_not_there_is_named_before_a_question_is_asked(chat, quick, names):
    said = []

    def answer(_path, body):
        return completion("7") if body["model"] == "m" else (404, {"error": {"message": "The model x does not exist."}})

    with faulty(answer) as url, pytest.raises(ThinkEditError, match=r"model x does not exist.*--served-model"):
        OpenAIEngine(url, chat, *names, say=said.append)
    assert not any("only chats" in line for line in said)


@pytest.mark.parametrize("options", [("--n-heads", "1"), ("--strength", "0.5"), ("--placebos", "1")])
def test_doses_and_placebos_are_refused_before_a_question_is_asked(thinkedit, tmp_path, options):
    done = thinkedit("evaluate", "--base-url", "http://127.0.0.1:9/v1", "--out", tmp_path / "run", *options)
    assert done.code == 2
    assert "--engine vllm" in done.error


def test_extras_that_a_server_refuses_are_left_away(chat, quick):
    seen = []

    def answer(path, body):
        if path.endswith("/models"):
            return models("m")
        seen.append(body)
        unknown = {"return_token_ids", "skip_special_tokens", "add_special_tokens"} & set(body)
        return (422, {"error": {"message": f"unexpected fields {unknown}"}}) if unknown else completion("7")

    with faulty(answer) as url:
        engine = OpenAIEngine(url, chat)
        list(engine.generate(requests(chat, 1), Sampling(max_tokens=5, top_k=7)))
        engine.close()
    assert seen[-1]["top_k"] == 7
    assert "skip_special_tokens" not in seen[-1]


@pytest.mark.parametrize(
    ("reply", "text", "reason"),
    [
        (message(reasoning_content="so", content="\\boxed { 7 }"), " so </think> \\boxed { 7 }", "stop"),
        (message(reasoning="so", content="\\boxed { 7 }"), " so </think> \\boxed { 7 }", "stop"),
        (message(content="<think> so </think> \\boxed { 7 }"), "<think> so </think> \\boxed { 7 }", "stop"),
        (message(finish="length", reasoning_content="so", content=None), " so", "length"),
    ],
)
def test_a_server_that_only_chats(chat, quick, reply, text, reason):
    """The template has opened the thought, so what is sampled starts inside of it."""
    said, seen = [], []

    def answer(path, body):
        if path.endswith("/models"):
            return models("m")
        if not path.endswith("/chat/completions"):
            return 404, {"error": {"message": "no such path"}}
        seen.append(body)
        return reply

    with faulty(answer) as url:
        engine = OpenAIEngine(url, chat, say=said.append)
        assert not engine.continues
        asked = requests(chat, 1)[0]
        (done,) = engine.generate([asked], GREEDY)
        engine.close()
    assert "only chats" in said[0]
    assert seen[-1]["messages"] == [{"role": "user", "content": asked.question}]
    assert done.token_ids == chat.encode(text)
    assert done.finish_reason == reason


def test_what_a_server_cannot_do_is_refused_with_what_to_use_instead(chat, quick):
    with pytest.raises(UsageError, match="--engine vllm"):
        OpenAIEngine("http://127.0.0.1:1/v1", chat, "m", abilities=frozenset({"steering"}))
    with pytest.raises(UsageError, match="http://localhost:8000/v1 is one"):
        OpenAIEngine("localhost:8000/v1", chat, "m")

    def answer(path, body):
        return models("one", "two") if path.endswith("/models") else completion("7")

    with faulty(answer) as url, pytest.raises(UsageError, match="one, two"):
        OpenAIEngine(url, chat)
    with faulty(lambda path, _body: models()) as url, pytest.raises(UsageError, match="--served-model"):
        OpenAIEngine(url, chat)
    denied = lambda _path, _body: (401, {"error": {"message": "no"}})  # noqa: E731
    with faulty(denied) as url, pytest.raises(ThinkEditError, match="OPENAI_API_KEY"):
        OpenAIEngine(url, chat, "m")


def test_token_ids_that_a_server_sends_are_taken_as_they_are(chat, quick):
    with faulty(lambda path, _b: models("m") if path.endswith("/models") else completion("7", token_ids=[5, 6, 2])) as url:
        engine = OpenAIEngine(url, chat)
        (done,) = engine.generate(requests(chat, 1), GREEDY)
        engine.close()
    assert done.token_ids == [5, 6, 2]
