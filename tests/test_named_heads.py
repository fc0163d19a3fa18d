"""Heads by name: written out, in a file, or the published lists of the paper's four models."""

import json

import pytest

from thinkedit.config import Shape
from thinkedit.errors import UsageError
from thinkedit.models import PAPER_HEADS, SHORT_NAMES, ModelSource
from thinkedit.named_heads import parse_heads, published_heads

SHAPES = {
    "deepseek-qwen-1.5b": Shape(28, 1536, 12, 2, 128, 151936, None),
    "deepseek-llama3-8b": Shape(32, 4096, 32, 8, 128, 128256, None),
    "deepseek-qwen-14b": Shape(48, 5120, 40, 8, 128, 152064, None),
    "deepseek-qwen-32b": Shape(64, 5120, 40, 8, 128, 152064, None),
}


@pytest.mark.parametrize("short", SHAPES)
def test_the_four_models_have_their_lists(short, tmp_path):
    heads = published_heads(ModelSource(short, tmp_path), SHAPES[short])
    assert len(heads) == len(set(heads)) == PAPER_HEADS[short]
    assert all(layer < SHAPES[short].layers and head < SHAPES[short].heads for layer, head in heads)
    hub = SHORT_NAMES[short]
    assert published_heads(ModelSource(hub, tmp_path), SHAPES[short]) == heads
    assert published_heads(ModelSource(str(tmp_path / hub.split("/")[1]), tmp_path), SHAPES[short], 5) == heads[:5]


def test_the_lists_are_those_of_the_paper(data_dir):
    published = json.loads((data_dir / "published_heads.json").read_text())
    for short, heads in published.items():
        assert published_heads(ModelSource(short, data_dir), SHAPES[short]) == [tuple(head) for head in heads]


def test_other_models_are_told_which_have_one(tmp_path, thinkedit):
    with pytest.raises(UsageError, match="deepseek-llama3-8b"):
        published_heads(ModelSource("Qwen/Qwen3-1.7B", tmp_path), SHAPES["deepseek-qwen-1.5b"])
    with pytest.raises(UsageError, match="another model"):
        published_heads(ModelSource("deepseek-qwen-14b", tmp_path), SHAPES["deepseek-qwen-1.5b"])
    done = thinkedit("edit", "--heads", "published", "--out", tmp_path / "run")
    assert done.code == 2
    assert "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B, 20 heads" in done.error


def test_every_way_of_writing_heads(tmp_path):
    wanted = [(21, 2), (17, 7)]
    assert parse_heads("21:2,17:7") == parse_heads("21:2 17:7") == wanted
    many = [(layer, head) for layer in range(40) for head in range(40)]  # more letters than the name of a file may have
    assert parse_heads(",".join(f"{layer}:{head}" for layer, head in many)) == many
    for value in ([[21, 2], [17, 7]], [{"layer": 21, "head": 2}, {"layer": 17, "head": 7}], {"heads": [[21, 2], [17, 7]]}):
        (tmp_path / "h.json").write_text(json.dumps(value))
        assert parse_heads(str(tmp_path / "h.json")) == wanted
    for text in ("many", "1:2:3", "1"):
        with pytest.raises(UsageError, match="names no heads"):
            parse_heads(text)
