"""`thinkedit verify` tells an edit, an untouched copy and anything else apart from the two directories alone."""

import json
import shutil

import pytest
import torch
from random_models import make_checkpoint
from safetensors.torch import load_file, save_file
from test_checkpoint import shard

from thinkedit.artifacts.adapter import write_adapter
from thinkedit.artifacts.changes import spacing
from thinkedit.artifacts.checkpoint import Checkpoint, write_edited
from thinkedit.artifacts.verify import compare
from thinkedit.config import read_shape
from thinkedit.edit import make_edit

HEADS = ((0, 1), (2, 0), (2, 3))
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def a_direction(base, seed=2):
    shape = read_shape(base)
    return torch.randn(shape.layers, shape.hidden, generator=torch.Generator().manual_seed(seed))


def an_edit(base, heads=HEADS, strength=1.0, seed=2):
    return make_edit(heads, a_direction(base, seed), read_shape(base).head_dim, strength)


def change(path, edit_tensors):
    tensors = load_file(path / "model.safetensors")
    edit_tensors(tensors)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    return path


@pytest.fixture(params=DTYPES, ids=str)
def base(tmp_path, request):
    return make_checkpoint(tmp_path / "base", "qwen3", dtype=request.param)


@pytest.mark.parametrize("strength", [1.0, 0.3, 2.0])
def test_it_finds_the_heads_the_strength_and_the_direction_by_itself(base, tmp_path, strength):
    edit = an_edit(base, strength=strength)
    write_edited(base, edit, tmp_path / "out")
    (tmp_path / "out" / "edit.json").unlink()
    found = compare(base, tmp_path / "out")
    assert found.verdict == "edit", found.headline
    assert [(head.layer, head.head) for head in found.heads] == sorted(HEADS)
    for head in found.heads:
        assert head.strength == pytest.approx(strength, abs=0.03)
        assert head.explained > 0.97
        assert head.left == pytest.approx(abs(1 - strength), abs=0.03)
    for layer, vector in found.directions.items():
        assert abs(vector.numpy() @ edit.directions[layer]) > 0.998


def test_a_given_direction_is_tested(base, tmp_path):
    write_edited(base, an_edit(base), tmp_path / "out")
    right = compare(base, tmp_path / "out", a_direction(base))
    assert right.verdict == "edit"
    assert min(right.cosine.values()) > 0.998
    wrong = compare(base, tmp_path / "out", a_direction(base, seed=9))
    assert wrong.verdict == "other"
    assert max(wrong.cosine.values()) < 0.5


def test_an_untouched_copy_is_identical(base, tmp_path):
    found = compare(base, shutil.copytree(base, tmp_path / "copy"))
    assert (found.verdict, found.heads, found.others, found.files) == ("identical", [], [], [])


def test_other_shards_and_formats_are_compared_by_name(base, tmp_path):
    sharded = shard(shutil.copytree(base, tmp_path / "sharded"))
    assert compare(base, sharded).verdict == "identical"
    write_edited(sharded, an_edit(base), tmp_path / "out")
    assert compare(base, tmp_path / "out").verdict == "edit"
    wide = change(shutil.copytree(base, tmp_path / "wide"), lambda t: t.update({k: v.float() for k, v in t.items()}))
    found = compare(base, wide)
    assert found.verdict == "identical"
    narrow = change(shutil.copytree(base, tmp_path / "narrow"), lambda t: t.update({k: v.bfloat16() for k, v in t.items()}))
    assert compare(base, narrow).verdict == "identical"
    if Checkpoint(base).tensors["model.norm.weight"].dtype != "BF16":
        assert any("BF16 instead of" in note for note in compare(base, narrow).notes)


def test_an_edit_that_was_stored_in_another_format_is_an_edit(tmp_path):
    base = make_checkpoint(tmp_path / "base", "llama")
    write_edited(base, an_edit(base), tmp_path / "out")
    change(tmp_path / "out", lambda t: t.update({k: v.bfloat16() for k, v in t.items()}))
    assert compare(base, tmp_path / "out").verdict == "edit"


def test_a_fine_tuned_copy_is_no_edit(base, tmp_path):
    def train(tensors):
        for name, tensor in tensors.items():
            if name.endswith("proj.weight"):
                tensors[name] = (tensor.float() + 1e-2 * torch.randn(tensor.shape)).to(tensor.dtype)

    found = compare(base, change(shutil.copytree(base, tmp_path / "tuned"), train))
    assert found.verdict == "other"
    assert not any(head.fits for head in found.heads)
    assert len(found.others) == 3 * 6


@pytest.mark.parametrize("size", [1e-2, 1e-4])
def test_a_copy_whose_o_proj_alone_was_tuned_is_no_edit(base, tmp_path, size):
    def train(tensors):
        name = "model.layers.1.self_attn.o_proj.weight"
        noise = size * torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(0))
        tensors[name] = (tensors[name].float() + noise).to(tensors[name].dtype)

    found = compare(base, change(shutil.copytree(base, tmp_path / "tuned"), train))
    assert found.verdict == "other"
    assert "no removal of one direction" in found.headline


@pytest.mark.parametrize("factor", [0.5, 0.99, 0.998])
def test_weight_decay_is_no_edit(base, tmp_path, factor):
    def decay(tensors):
        name = "model.layers.1.self_attn.o_proj.weight"
        tensors[name] = (factor * tensors[name].float()).to(tensors[name].dtype)

    assert compare(base, change(shutil.copytree(base, tmp_path / "tuned"), decay)).verdict == "other"


def flip(path, name, position, bit=0):
    place = Checkpoint(path).tensors[name]
    with place.file.open("rb+") as file:
        file.seek(place.start + position)
        byte = file.read(1)[0]
        file.seek(place.start + position)
        file.write(bytes([byte ^ (1 << bit)]))
    return path


@pytest.mark.parametrize(
    "name", ["model.layers.1.self_attn.o_proj.weight", "model.layers.2.mlp.up_proj.weight", "model.norm.weight"]
)
def test_one_flipped_bit_is_found_wherever_it_is(base, tmp_path, name):
    found = compare(base, flip(shutil.copytree(base, tmp_path / "copy"), name, 40))
    assert found.verdict == "other"
    if "o_proj" in name:
        assert found.reason == "the change of 1 number in 1 of 1 changed head is no removal of one direction (1:0)"
    else:
        assert found.reason == f"1 other tensor differs ({name})"
        assert found.others[0].what.startswith("1 of ")
    write_edited(base, an_edit(base), tmp_path / "out")
    assert compare(base, flip(tmp_path / "out", name, 40)).verdict == "other"


def test_other_files_count_where_they_shape_the_model(base, tmp_path):
    write_edited(base, an_edit(base), tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("nothing")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps(config | {"transformers_version": "0"}))
    assert compare(base, tmp_path / "out").verdict == "edit"
    with (tmp_path / "out" / "chat_template.jinja").open("a") as file:
        file.write("x")
    found = compare(base, tmp_path / "out")
    assert found.verdict == "other"
    assert found.files == ["chat_template.jinja"]


def test_two_architectures_are_named(tmp_path):
    one, two = make_checkpoint(tmp_path / "one", "qwen3"), make_checkpoint(tmp_path / "two", "qwen2")
    found = compare(one, two)
    assert found.verdict == "other"
    assert "two different architectures (Qwen3ForCausalLM" in found.headline


class TestAdapters:
    def test_an_adapter_is_an_edit(self, base, tmp_path):
        write_adapter(an_edit(base, strength=0.5), Checkpoint(base).o_proj_weight, tmp_path / "adapter", str(base))
        found = compare(base, tmp_path / "adapter", a_direction(base))
        assert found.headline == "an edit of 3 heads: 0:1, 2:0, 2:3"
        assert [head.strength for head in found.heads] == pytest.approx([0.5] * 3, abs=1e-5)
        assert min(found.cosine.values()) > 1 - 1e-9

    def test_any_other_lora_is_not(self, base, tmp_path):
        write_adapter(an_edit(base), Checkpoint(base).o_proj_weight, tmp_path / "adapter", str(base))
        weights = tmp_path / "adapter" / "adapter_model.safetensors"
        tensors = load_file(weights)
        save_file({name: torch.randn_like(tensor) for name, tensor in tensors.items()}, weights)
        assert compare(base, tmp_path / "adapter").verdict == "other"
        foreign = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
        save_file({**tensors, foreign: torch.randn(1, 64)}, weights)
        assert foreign in compare(base, tmp_path / "adapter").headline

    def test_the_adapter_of_another_model_is_named(self, base, tmp_path):
        other = make_checkpoint(tmp_path / "other", "qwen2")
        write_adapter(an_edit(other), Checkpoint(other).o_proj_weight, tmp_path / "adapter", str(other))
        assert "made for another model" in compare(base, tmp_path / "adapter").headline


class TestTheCommand:
    def test_its_exit_code_says_it(self, checkpoint, thinkedit, tmp_path):
        base = checkpoint("llama")
        write_edited(base, an_edit(base), tmp_path / "out")
        done = thinkedit("verify", base, tmp_path / "out")
        assert done.code == 0, done.error
        assert "an edit of 3 heads: 0:1, 2:0, 2:3" in done.out
        said = json.loads(thinkedit("verify", base, tmp_path / "out", "--json").out)
        assert said["verdict"] == "edit"
        assert [(head["layer"], head["head"]) for head in said["heads"]] == sorted(HEADS)
        flip(tmp_path / "out", "model.norm.weight", 0)
        done = thinkedit("verify", base, tmp_path / "out")
        assert done.code == 1
        assert "not a ThinkEdit edit" in done.out
        assert thinkedit("verify", base, base).code == 2
        assert thinkedit("verify", base, tmp_path / "nowhere").code == 2


def test_spacing_is_the_distance_to_the_next_number():
    for kind in DTYPES:
        values = torch.rand(1000).add(1e-3).to(kind)
        following = torch.nextafter(values, torch.full_like(values, 2)) if kind == torch.float32 else None
        if following is not None:
            assert torch.equal(spacing(values.double(), kind), following.double() - values.double())
        bits = (values.view(torch.int16) + 1).view(kind) if kind.itemsize == 2 else following
        assert torch.equal(spacing(values.double(), kind), bits.double() - values.double())
