"""Every format that is read, broken in every way that comes to mind: it works, or there is one clear error, before long."""

import csv
import io
import json
import math
import shutil
from contextlib import closing

import foreign
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from fuzzing import JSON, NUMBERS, TEXTS, broken_bytes, broken_value, law, write_json, write_lines
from hypothesis import given
from hypothesis import strategies as st
from random_models import make_checkpoint
from servers import faulty

from thinkedit.artifacts import tensor_map
from thinkedit.artifacts.adapter import Adapter, write_adapter
from thinkedit.artifacts.checkpoint import Checkpoint
from thinkedit.artifacts.consistency import faults, not_finite
from thinkedit.chat import Chat
from thinkedit.config import read_shape
from thinkedit.direction_quality import direction_quality
from thinkedit.directions import Direction, check_origin, load_direction, split_by_length, thinking_direction
from thinkedit.edit import make_edit
from thinkedit.engines.base import Request, Sampling
from thinkedit.engines.openai import OpenAIEngine
from thinkedit.files import read_json
from thinkedit.imports.published import Hints
from thinkedit.imports.recognise import read_piece
from thinkedit.imports.thoughts import Reader
from thinkedit.loading import load_tokenizer
from thinkedit.models import default_heads, find_model
from thinkedit.named_heads import parse_heads
from thinkedit.pipeline.run import Run
from thinkedit.plain_text import printable
from thinkedit.records import RecordFile, read_records
from thinkedit.responses import read_responses
from thinkedit.steering import parse_layers
from thinkedit.tasks import load_questions
from thinkedit.tasks.selection import parse_selection, select

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 272,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
GENERATION = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "eos_token_id": [1, 2], "repetition_penalty": 1.0}
RECORD = {
    "task": "t", "question_id": "q", "question": "?", "gold": "1", "sample": 0, "seed": 5, "prompt_ids": [1, 2],
    "token_ids": [3], "text": "x", "thinking_tokens": 3, "status": "closed", "finish_reason": "stop", "answer": "1",
    "correct": True, "verdict": "correct", "forced": None, "form": "number", "choices": None,
    "group": "g", "model": "m", "control": "attn",
    "alpha": 0.5, "layer": None, "edit": None, "think_tags": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder whose files are written anew for every input."""
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("fuzz") / "model", "llama")


@pytest.fixture
def spoiled(base, tmp_path):
    """A model of one's own, whose files a test replaces."""
    return shutil.copytree(base, tmp_path / "model")


@pytest.fixture(scope="module")
def chat():
    return Chat(load_tokenizer(find_model("tiny")))


def safetensors(metadata=None):
    tensors = {"direction": ("F32", (3, 8)), "b": ("I32", (2,))}
    header, offset = {"__metadata__": metadata or {"control": "attn", "fingerprint": "f"}}, 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * 4
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    return header, b"\1" * offset


def packed(header, data):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def read_everything(checkpoint):
    """All that is asked of a checkpoint before its matrices are used."""
    checkpoint.fingerprint()
    checkpoint.quantisation()
    faults(checkpoint)
    list(not_finite(checkpoint))
    for layer in checkpoint.o_proj:
        checkpoint.check_shape(layer)
        checkpoint.o_proj_weight(layer)


class TestTensors:
    @given(st.data())
    def test_headers_that_lie(self, place, data):
        header, numbers = safetensors()
        path = place / "x.safetensors"
        path.write_bytes(packed(data.draw(broken_value(header)), numbers))
        with law():
            tensor_map.open_arrays(path)
        with law():
            direction = load_direction(path)
            check_origin(tuple(direction.vectors.shape), direction.about, 3, 8, "f", "model")

    @given(broken_bytes(packed(*safetensors())))
    def test_files_that_are_damaged(self, place, data):
        path = place / "y.safetensors"
        path.write_bytes(data)
        with law():
            tensor_map.open_arrays(path)
        with law():
            load_direction(path)

    @given(st.data())
    def test_indices_that_lie(self, base, place, data):
        names = list(Checkpoint(base).tensors)
        index = place / "indexed" / "model.safetensors.index.json"
        if not index.parent.is_dir():
            shutil.copytree(base, index.parent)
        write_json(index, data.draw(broken_value({"weight_map": dict.fromkeys(names, "model.safetensors")})))
        with law():
            read_everything(Checkpoint(index.parent))

    @given(st.data())
    def test_weights_that_are_not_what_the_config_says(self, base, place, data):
        directory = place / "lying"
        if not directory.is_dir():
            shutil.copytree(base, directory)
        whole = (base / "model.safetensors").read_bytes()
        begin = 8 + int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8:begin])
        (directory / "model.safetensors").write_bytes(packed(data.draw(broken_value(header)), whole[begin:]))
        with law():
            read_everything(Checkpoint(directory))

    @given(st.data())
    def test_published_directions(self, place, data):
        path = place / "model_thinking_length_direction_gsm8k_attn.pt"
        buffer = io.BytesIO()
        torch.save(torch.ones(2, 1, 8, dtype=torch.bfloat16), buffer)
        path.write_bytes(data.draw(broken_bytes(buffer.getvalue())))
        with law():
            load_direction(path)

    @given(st.data())
    def test_adapters(self, place, data):
        directory = place / "adapter"
        edit = make_edit([(0, 1)], torch.ones(1, 8), 4)
        write_adapter(edit, lambda _layer: torch.ones(8, 8), directory, "base")
        if data.draw(st.booleans()):
            path = directory / "adapter_config.json"
            write_json(path, data.draw(broken_value(read_json(path))))
        else:
            path = directory / "adapter_model.safetensors"
            path.write_bytes(data.draw(broken_bytes(path.read_bytes())))
        with law():
            Adapter.read(directory)


class TestConfigs:
    @given(broken_value(CONFIG))
    def test_sizes(self, place, config):
        write_json(place / "config.json", config)
        with law():
            shape = read_shape(place)
            default_heads("model", shape)
            assert shape.layers * shape.heads * shape.head_dim * shape.hidden < 1 << 80

    @given(st.sampled_from(sorted(CONFIG)), NUMBERS)
    def test_absurd_sizes(self, place, name, size):
        write_json(place / "config.json", CONFIG | {name: size})
        with law():
            read_shape(place)

    @given(broken_bytes(json.dumps(CONFIG).encode()))
    def test_damaged_json(self, place, data):
        (place / "config.json").write_bytes(data)
        with law():
            read_shape(place)

    @given(broken_value(GENERATION))
    def test_sampling_that_is_suggested(self, spoiled, place, config):
        write_json(spoiled / "generation_config.json", config)
        shutil.rmtree(place / "run", ignore_errors=True)
        with law(), Run(str(spoiled), place / "run") as run:
            run.check_asking()
            hash(tuple(run.end_ids()))


class TestTokenizers:
    def used(self, spoiled, name, data):
        """All that is asked of a tokenizer, one of whose files holds `data`."""
        (spoiled / name).write_bytes(data)
        with law():
            chat = Chat(load_tokenizer(find_model(str(spoiled), weights=False)))
            ids = chat.prompt_ids("What is 1 + 1?")
            chat.decode(ids)
            chat.thought(ids, ids, at_cap=True)

    @pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
    @given(data=st.data())
    def test_other_content(self, base, spoiled, name, data):
        value = data.draw(broken_value(json.loads((base / name).read_text())))
        self.used(spoiled, name, json.dumps(value).encode())

    @pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
    @given(data=st.data())
    def test_damaged_files(self, base, spoiled, name, data):
        self.used(spoiled, name, data.draw(broken_bytes((base / name).read_bytes())))


class TestRecords:
    @given(st.lists(broken_value(RECORD) | st.just(RECORD), max_size=3))
    def test_records_with_other_content(self, place, values):
        path = write_lines(place / "records.jsonl", values)
        with law():
            for record in read_records(path):
                assert record.key
                assert record.tags

    @given(broken_bytes((json.dumps(RECORD) + "\n").encode() * 3))
    def test_torn_and_foreign_lines(self, place, data):
        path = place / "torn.jsonl"
        path.write_bytes(data)
        with law():
            file = RecordFile(path)
            file.append(file.records[:1])
            assert len(read_records(path)) == len(file.records)

    @given(broken_value([{"question": "What is 1 + 1?", "response": "1 + 1 = 2</think> 2"}, RECORD]))
    def test_responses_made_elsewhere(self, place, chat, rows):
        path = write_json(place / "responses.json", rows)
        with law():
            read_responses(path, chat, 86)

    @given(TEXTS, TEXTS)
    def test_any_question_can_be_asked(self, place, chat, question, response):
        path = write_json(place / "asked.json", [{"question": question, "response": response}])
        with law():
            read_responses(path, chat, 86)


def parquet(rows):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def comma_separated(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


ROWS = [
    {"question": "What is 1?", "answer": "1", "level": "easy", "id": "a"},
    {"question": "2?", "answer": "2", "level": "", "id": "b"},
]
WHOLE = {
    ".jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in ROWS),
    ".json": json.dumps(ROWS).encode(),
    ".csv": comma_separated(ROWS),
    ".parquet": parquet(ROWS),
}


COMPLETION = {
    "id": "c", "object": "text_completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "text": " 7", "finish_reason": "stop", "logprobs": None, "token_ids": [5, 6, 2]}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
}  # fmt: skip
CHAT = COMPLETION | {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "7", "reasoning": "so"}, "finish_reason": "stop"}],
}
MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]}


@pytest.fixture(scope="module")
def replies():
    """What a server answers to a path that ends so."""
    return {}


@pytest.fixture(scope="module")
def url(replies):
    def answer(path, _body):
        found = next(reply for end, reply in replies.items() if path.endswith(end))
        return found if isinstance(found, tuple) else (200, found)

    with faulty(answer) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_a, **_k: 0.001)
        patch.setattr("thinkedit.engines.openai.RETRIES", 1)
        patch.setattr("thinkedit.engines.openai.FIRST_RETRIES", 1)
        yield url


class TestServers:
    @pytest.mark.parametrize("end", ["/models", "/chat/completions", "/completions"])
    @given(data=st.data())
    def test_replies_with_other_content(self, chat, replies, url, end, data):
        sound = {"/models": MODELS, "/chat/completions": CHAT, "/completions": COMPLETION}
        replies |= sound
        if end == "/chat/completions":
            replies["/completions"] = (404, {})  # it only chats
        # Very deep ones are in test_openai.py: among thousands, one ends in pytest's own handling of exceptions.
        damaged = broken_bytes(json.dumps(sound[end]).encode()).filter(lambda reply: b"[" * 100 not in reply)
        replies[end] = data.draw(broken_value(sound[end]) | damaged)
        prompt = tuple(chat.prompt_ids("What is 1?"))
        with law(), closing(OpenAIEngine(url, chat)) as engine:
            (done,) = engine.generate([Request(("q", 0), prompt, seed=3, question="What is 1?")], Sampling(5))
            chat.decode(done.token_ids)
            chat.thought(prompt, done.token_ids, at_cap=done.finish_reason == "length")


class TestTasks:
    @pytest.mark.parametrize("suffix", sorted(WHOLE))
    @given(data=st.data())
    def test_damaged_files(self, place, suffix, data):
        path = place / f"task{suffix}"
        path.write_bytes(data.draw(broken_bytes(WHOLE[suffix])))
        with law():
            load_questions(str(path), None, None, 2)

    @given(broken_value([*ROWS, {"question": "which?", "answer": "A", "choices": ["x", "y"]}]))
    def test_rows_with_other_content(self, place, rows):
        path = write_json(place / "rows.json", rows)
        with law():
            select(load_questions(str(path), None, None, None), 2, "rows")

    @given(st.text(max_size=30) | TEXTS)
    def test_what_is_written_on_the_command_line(self, text):
        for parse in (parse_selection, lambda text: parse_layers(text, 4), parse_heads):
            with law():
                parse(text)


class TestImports:
    @pytest.mark.parametrize("kind", ["probe", "evaluation", "steering", "records", "responses"])
    @given(data=st.data())
    def test_files_of_others(self, place, kind, data):
        whole = {
            "probe": foreign.probe(3),
            "evaluation": foreign.evaluation(0.5, 100, 0, samples=2),
            "steering": foreign.steering(0.5, 5),
            "records": [RECORD, RECORD],
            "responses": [{"question": "a", "response": "<think>b</think> 1", "answer": "1"}],
        }[kind]
        folder = place / "thinking_length_attn" / "deepseek-qwen-1.5b"
        folder.mkdir(parents=True, exist_ok=True)
        path = write_json(folder / "0.5.json", data.draw(broken_value(whole)))
        with law():
            read_piece(path, Hints(Reader()))

    @given(st.data())
    def test_lm_eval_samples(self, place, data):
        lines = foreign.lm_eval(place, count=2).read_bytes().splitlines()
        rows = [data.draw(broken_value(json.loads(line))) for line in lines]
        path = write_lines(place / "samples_gsm8k_x.jsonl", rows)
        with law():
            read_piece(path, Hints(Reader()))


SIZES = [0.0, 1.0, 1e-30, 1e30, math.nan, math.inf]


class TestArrays:
    @given(st.lists(st.integers(1, 2000), max_size=60), st.integers(-5, 3000), st.integers(-5, 3000))
    def test_thresholds(self, lengths, short, long):
        with law():
            split = split_by_length(lengths, short, long)
            assert len(split.short)
            assert len(split.long)

    @given(
        st.integers(0, 6), st.integers(0, 6), st.sampled_from([0.0, 1.0, 1e-30, 1e30, math.nan, math.inf]), st.integers(0, 99)
    )
    def test_directions_of_any_activations(self, place, short, long, size, seed):
        means = (np.random.default_rng(seed).standard_normal((14, 2, 5)) * size).astype(np.float32)
        lengths = np.arange(1, 15)
        with law():
            split = split_by_length(lengths, short, long)
            vectors = thinking_direction(means, split)
            quality = direction_quality(means, split, lengths)
            Direction(vectors, "attn", quality.about()).save(place / "direction.safetensors")
            again = load_direction(place / "direction.safetensors")
            assert torch.equal(again.vectors, vectors)
            assert "only" in again.about["flags"]


@given(JSON)
def test_what_a_terminal_shows_is_text_and_nothing_else(value):
    shown = printable(json.dumps(value, ensure_ascii=False))
    shown.encode("utf-8")
    assert all(c.isprintable() or c == "\n" for c in shown)
