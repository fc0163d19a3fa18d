"""The card says what was done to which model and with what result, under the base's licence, and no path of a machine."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import save_file

from thinkedit.artifacts.card import figures_table, front_matter, with_figures, without_paths
from thinkedit.models import ModelSource
from thinkedit.pipeline.card import refresh_card, refresh_cards

FIGURE = {"value": 0.05, "low": 0.01, "high": 0.09, "n": 100}
ARM = {"samples": 2, "accuracy": {"value": 0.8}, "thinking_length": {"value": 1234.5}}
SUMMARY = {
    "heads": {"edited": [[0, 1], [2, 3]]},
    "edit": {"strength": 1.0},
    "evaluation": {
        "gsm8k": {
            "arms": {"base": ARM, "edited": ARM | {"accuracy": {"value": 0.85}}},
            "comparisons": {"edited": {"questions": 100, "accuracy_difference": FIGURE, "thinking_length_difference": None}},
        }
    },
}


@pytest.fixture
def run(checkpoint, thinkedit, tmp_path):
    """A run with an edited model whose base has a card with a licence."""
    base = shutil.copytree(checkpoint("llama"), tmp_path / "base")
    (base / "README.md").write_text("---\nlicense: mit\nlanguage: [en]\ntags: [x]\n---\n# The base\n")
    save_file({"direction": torch.randn(3, 64)}, tmp_path / "d.safetensors", {"control": "attn"})
    where = ("--model", base, "--out", tmp_path / "run", "--direction", tmp_path / "d.safetensors", "--heads", "0:1,2:3")
    done = thinkedit("edit", *where)
    assert done.code == 0, done.error
    return tmp_path / "run"


def test_licence_and_relation_stand_in_the_front_matter(run):
    card = (run / "edited" / "README.md").read_text()
    meta = yaml.safe_load(card.split("---")[1])
    assert meta["license"] == "mit"
    assert meta["language"] == ["en"]
    assert meta["library_name"] == "transformers"
    assert "thinkedit" in meta["tags"]
    assert "base_model" not in meta  # a directory of no known origin
    assert "0:1, 2:3" in card
    assert "2503.22048" in card
    assert "Not measured yet" in card


def test_no_path_of_this_machine_is_in_it(run, tmp_path):
    for path in (run / "edited").glob("*"):
        if path.suffix in {".md", ".json"} and path.name != "tokenizer.json":
            assert str(tmp_path) not in path.read_text(), path.name
    record = json.loads((run / "edited" / "reproduce.json").read_text())
    assert record["versions"]["torch"]
    assert len(record["base_fingerprint"]) == 64
    assert record["commands"][-1].startswith("thinkedit edit --model base --out run --direction d.safetensors")
    assert without_paths("a /x/y/z --to=/q/r 'b/c' https://x.y/z") == "a z --to=r 'b/c' https://x.y/z"


def test_the_figures_come_in_when_they_are_there_and_are_of_this_edit(run):
    assert not refresh_card(run / "edited")
    (run / "summary.json").write_text(json.dumps(SUMMARY | {"heads": {"edited": [[1, 1]]}}))
    assert not refresh_card(run / "edited")
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    assert refresh_card(run / "edited")
    card = (run / "edited" / "README.md").read_text()
    assert "| gsm8k | 100 x 2 | 80.00 → 85.00 | +5.00 [+1.00, +9.00] | 1,234 → 1,234 | - |" in card
    assert "Not measured yet" not in card
    assert refresh_card(run / "edited")
    assert (run / "edited" / "README.md").read_text() == card


def test_an_analysis_brings_them_into_the_cards_of_its_run(run):
    shutil.copytree(run / "edited", run / "adapter")
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    refresh_cards(run)
    for name in ("edited", "adapter"):
        assert "80.00 → 85.00" in (run / name / "README.md").read_text()


def test_hub_models_are_named_by_their_id(tmp_path):
    wanted = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
    snapshot = tmp_path / "models--deepseek-ai--DeepSeek-R1-Distill-Qwen-1.5B" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    assert front_matter(ModelSource("deepseek-qwen-1.5b", tmp_path), False)["base_model"] == wanted
    assert front_matter(ModelSource(str(snapshot), snapshot), True)["base_model"] == wanted
    assert front_matter(ModelSource(str(snapshot), snapshot), True)["base_model_relation"] == "adapter"


def test_figures_replace_figures_and_leave_the_rest():
    card = "# x\n\n## What it changed\n\nold\n\n| a |\n\n## Use\n\nmine\n"
    assert with_figures(card, "new \\1") == "# x\n\n## What it changed\n\nnew \\1\n\n## Use\n\nmine\n"
    assert figures_table({}) is None
