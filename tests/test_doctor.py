"""The doctor says beforehand what will work, names what will not, and its proof notices steering and edits that go wrong."""

import json
import shutil

import pytest
import torch
from random_models import OPENED_TEMPLATE, SIZES, byte_tokenizer, make_checkpoint
from safetensors.torch import load_file, save_file
from transformers import GraniteConfig, GraniteForCausalLM

from thinkedit.doctor import room
from thinkedit.doctor.asking import think_pairs
from thinkedit.doctor.examine import examine
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.errors import UsageError

PROOF = ("steering attn", "steering mlp", "editing")


@pytest.fixture(autouse=True)
def much_room(monkeypatch):
    """What the doctor finds shall not depend on how full the machine of the tests is."""
    monkeypatch.setattr(room, "memory_there", lambda _device: 10**15)
    monkeypatch.setattr(room, "disk_there", lambda _place: 10**15)


def checks(path, **options):
    return {check.name: check for check in examine(str(path), device="cpu", **options)}


@pytest.mark.parametrize("architecture", ["llama", "llama-biases", "qwen2", "qwen3", "mistral"])
def test_every_supported_architecture_is_well(checkpoint, architecture):
    found = checks(checkpoint(architecture))
    assert [name for name, check in found.items() if check.state != "ok"] == ["context"], found
    assert all("own weights" in found[name].found for name in PROOF)
    assert ("own biases came back" in found["steering attn"].found) == (architecture == "llama-biases")


def test_half_precision_is_proved_within_its_roundings(tmp_path):
    found = checks(make_checkpoint(tmp_path / "m", "llama-biases", dtype=torch.bfloat16), dtype="bfloat16")
    assert {found[name].state for name in PROOF} == {"ok"}


def test_a_model_that_does_not_fit_is_tried_on_random_layers(checkpoint, monkeypatch):
    monkeypatch.setattr(room, "memory_there", lambda _device: 10_000)
    found = checks(checkpoint("qwen3"))
    assert found["memory"].state == "fails"
    assert all(found[name].state == "ok" and "random layers" in found[name].found for name in PROOF)


def without(name):
    return lambda path: (path / name).unlink()


def config(**changed):
    def change(path):
        value = json.loads((path / "config.json").read_text()) | changed
        (path / "config.json").write_text(json.dumps(value))

    return change


def tensors(change):
    def write(path):
        held = load_file(path / "model.safetensors")
        change(held)
        save_file(held, path / "model.safetensors", {"format": "pt"})

    return write


def template(text):
    def write(path):
        (path / "chat_template.jinja").unlink()
        byte_tokenizer(template=text).save_pretrained(path)

    return write


def other_tags(path):
    tokenizer = byte_tokenizer(think=False)
    tokenizer.add_tokens(["<reasoning>", "</reasoning>"])
    tokenizer.save_pretrained(path)


def second_pair(path):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<|begin_of_thought|>", "<|/begin_of_thought|>"])
    tokenizer.save_pretrained(path)


def not_a_number(held):
    held["model.layers.1.mlp.up_proj.weight"][3, 4] = torch.nan


def no_layer(held):
    for name in [name for name in held if "layers.2." in name]:
        del held[name]


def granite(path):
    shutil.rmtree(path)
    sizes = {name: size for name, size in SIZES.items() if name != "head_dim"}
    GraniteForCausalLM(GraniteConfig(**sizes, residual_multiplier=0.5)).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)


@pytest.mark.parametrize(
    ("spoil", "name", "state", "words"),
    [
        (without("tokenizer.json"), "tokenizer", "fails", "no tokenizer"),
        (without("config.json"), "model", "fails", "no config.json"),
        (without("model.safetensors"), "files", "fails", "cannot run code"),
        (lambda path: (path / "model.safetensors").write_bytes(b"x" * 99), "files", "fails", "truncated"),
        (tensors(not_a_number), "numbers", "fails", "1 in model.layers.1.mlp.up_proj.weight"),
        (tensors(no_layer), "files", "fails", "missing in 1 of 3 layers"),
        (tensors(lambda held: held.pop("lm_head.weight")), "files", "fails", "lm_head.weight is missing"),
        (config(num_hidden_layers=2), "files", "fails", "2 layers"),
        (config(vocab_size=9999), "files", "fails", "9999x64"),
        (config(hidden_size=10**12), "config", "fails", "no model has"),
        (config(quantization_config={"quant_method": "awq"}), "quantisation", "fails", "awq"),
        (granite, "architecture", "fails", "cannot be steered"),
        (lambda path: byte_tokenizer(think=False).save_pretrained(path), "think tokens", "fails", "nothing like it"),
        (other_tags, "think tokens", "fails", "<reasoning> ... </reasoning>"),
        (second_pair, "think tokens", "warning", "2 pairs"),
        (template(None), "chat template", "fails", "none"),
        (template("{{ raise_exception('no system') }}"), "chat template", "fails", "no system"),
        (template("{{ 'x' * 10**10 }}"), "chat template", "fails", "does not come to an end"),
        (template(OPENED_TEMPLATE + "</think>"), "chat template", "warning", "closes the thought"),
        (template("{{ strftime_now('%d') }}" + OPENED_TEMPLATE), "chat template", "warning", "date"),
        (config(max_position_embeddings=512), "context", "warning", "512 tokens"),
        (lambda path: (path / "generation_config.json").write_text('{"top_p": 7}'), "sampling", "fails", "top_p 7"),
        (lambda path: (path / "generation_config.json").write_text('{"top_p": "x"}'), "sampling", "fails", "expected a number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_where_it_is(checkpoint, tmp_path, spoil, name, state, words):
    path = shutil.copytree(checkpoint("llama"), tmp_path / "m")
    spoil(path)
    found = checks(path)
    assert found[name].state == state, found
    assert words in found[name].found
    assert found[name].advice


@pytest.mark.parametrize(
    ("method", "spoil", "words"),
    [
        ("steer", lambda own: lambda self, biases: own(self, biases) if biases else None, "not what it was after steering"),
        (
            "steer",
            lambda own: lambda self, biases: own(self, {at: 1.01 * v for at, v in (biases or {}).items()}),
            "differs from alpha v",
        ),
        (
            "steer",
            lambda own: lambda self, biases: own(self, {(max(at - 1, 0), c): v for (at, c), v in (biases or {}).items()}),
            "changes what comes before it",
        ),
        ("apply", lambda own: lambda self, edit: own(self, edit) if edit else None, "not what they were after the edit"),
        ("apply", lambda own: lambda self, edit: None, "nothing changed"),
    ],
    ids=["biases stay", "too strong", "one layer too low", "the edit stays", "no edit"],
)  # fmt: skip
def test_the_proof_notices_what_goes_wrong(checkpoint, monkeypatch, method, spoil, words):
    monkeypatch.setattr(TransformersEngine, method, spoil(getattr(TransformersEngine, method)))
    found = checks(checkpoint("llama"))
    failing = " ".join(found[name].found for name in PROOF if found[name].state == "fails")
    assert words in failing


def test_disk_is_counted_for_what_a_run_leaves(checkpoint, tmp_path):
    found = checks(checkpoint("llama"), out=tmp_path / "a" / "run")
    assert found["disk"].state == "ok"
    assert "activations" in found["disk"].found
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("free", "state"), [(10**10, "warning"), (10**4, "fails")])
def test_a_disk_that_may_fill_is_told(checkpoint, monkeypatch, free, state):
    monkeypatch.setattr(room, "disk_there", lambda _place: free)
    assert checks(checkpoint("llama"))["disk"].state == state


def test_the_free_memory_and_disk_are_those_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.undo()
    assert 0 < room.memory_there("cpu") < 10**14
    assert 0 < room.disk_there(tmp_path) <= shutil.disk_usage(tmp_path).total


def test_tags_named_by_hand_take_the_place_of_tokens(tmp_path):
    path = make_checkpoint(tmp_path / "m", "llama", think=False)
    found = checks(path, think_tags=("[T]", "[/T]"))
    assert "think tokens" not in found
    assert found["chat template"].state == "ok"


def test_pairs_of_tokens_are_told_by_their_names():
    vocabulary = dict.fromkeys(["<think>", "</think>", "[THINK]", "[/THINK]", "<thinking>", "think", "<b>", "</b>"], 0)
    assert think_pairs(vocabulary) == [("<think>", "</think>"), ("[THINK]", "[/THINK]")]


class TestTheCommand:
    def test_tiny_is_usable(self, thinkedit):
        done = thinkedit("doctor", "--device", "cpu")
        assert done.code == 0, done.out + done.error
        assert "It can be used." in done.out

    def test_json_is_for_programs(self, thinkedit, tmp_path, checkpoint):
        path = shutil.copytree(checkpoint("llama"), tmp_path / "m")
        byte_tokenizer(think=False).save_pretrained(path)
        done = thinkedit("doctor", path, "--json")
        value = json.loads(done.out)
        assert done.code == 1
        assert value["usable"] is False
        assert [check["name"] for check in value["checks"] if check["state"] == "fails"] == ["think tokens"]

    def test_a_name_that_only_the_hub_knows_says_so(self, thinkedit):
        done = thinkedit("doctor", "deepseek-qwen-1.5b", "--json")
        assert done.code == 1
        assert "could not be fetched" in json.loads(done.out)["checks"][0]["found"]
        assert thinkedit("doctor", "no-such-model").code == 2
        with pytest.raises(UsageError):
            list(examine("tiny", device="abacus"))
