"""The model card and `reproduce.json`: what was done, to which model, with which result, and the commands that did it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thinkedit.edit import Edit
from thinkedit.models import SHORT_NAMES, ModelSource
from thinkedit.progress import counted

PAPER = "https://arxiv.org/abs/2503.22048"
CITATION = """@inproceedings{sun2025thinkedit,
  title     = {ThinkEdit: Interpretable Weight Editing to Mitigate Overly Short Thinking in Reasoning Models},
  author    = {Sun, Chung-En and Yan, Ge and Weng, Tsui-Wei},
  booktitle = {Proceedings of EMNLP},
  year      = {2025},
  eprint    = {2503.22048},
  archivePrefix = {arXiv}
}"""
RESULTS = "## What it changed"
UNMEASURED = "Not measured yet (`thinkedit evaluate`, then `thinkedit analyze`)."
KEPT = ("license", "license_name", "license_link", "language")  # of the base's front matter
SNAPSHOT = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/[^/]+$")


def hub_id(source: ModelSource) -> str | None:
    """The hub id of a model, None for a directory of no known origin."""
    if source.name in SHORT_NAMES:
        return SHORT_NAMES[source.name]
    if match := SNAPSHOT.search(str(source.path.absolute())):
        return f"{match[1]}/{match[2]}"
    return None


def front_matter(base: ModelSource, adapter: bool) -> dict[str, Any]:
    """The metadata that the hub shows; the licence is the base's."""
    own = base_front_matter(base.path)
    found: dict[str, Any] = {key: own[key] for key in KEPT if key in own}
    if name := hub_id(base):
        found |= {"base_model": name, "base_model_relation": "adapter" if adapter else "finetune"}
    found |= {"library_name": "peft" if adapter else "transformers", "pipeline_tag": "text-generation"}
    return found | {"tags": ["thinkedit", "model-editing", "reasoning", "arxiv:2503.22048", *(["lora"] if adapter else [])]}


def base_front_matter(path: Path) -> dict[str, Any]:
    """The YAML block at the head of the base's card; empty where there is none that can be read."""
    import yaml

    card = path / "README.md"
    match = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", card.read_text("utf-8", "replace"), re.S) if card.is_file() else None
    try:
        value = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        value = None
    return value if isinstance(value, dict) else {}


def model_card(base: ModelSource, edit: Edit, about: Mapping[str, Any], adapter: bool, figures: str | None = None) -> str:
    """README.md of an edited model or of an adapter. `about` is what stands in `edit.json` beside the heads."""
    import yaml

    meta = yaml.safe_dump(front_matter(base, adapter), sort_keys=False, allow_unicode=True)
    name = base_name(base)
    what = "A rank-1 LoRA adapter that edits" if adapter else "An edit of"
    strengths = sorted(set(edit.strengths.values()))
    strength = f"{strengths[0]:g}" if len(strengths) == 1 else f"{strengths[0]:g} to {strengths[-1]:g}"
    end = about.get("suppress", "short")
    lines = [
        f"---\n{meta}---\n",
        f"# {title(base, adapter)}\n",
        f"{what} {name} by [ThinkEdit]({PAPER}): the direction of thinking length is taken out of the output projection of "
        f"{counted(len(edit.heads), 'attention head')}, chosen as those that write its {end} end. "
        + ("The base model's files are not changed." if adapter else "Every other weight and the tokenizer are the base's."),
        "\n## The edit\n",
        "`W_o[:, h] <- (I - s v v^T) W_o[:, h]`, v the unit direction of the layer, s the strength.\n",
        "| setting | value |\n| --- | --- |",
        f"| base | {name} |",
        f"| heads | {len(edit.heads)} in {counted(len(edit.layers), 'layer')} |",
        f"| strength s | {strength} |",
        f"| suppressed end | {end} thoughts |",
        f"| direction | {about.get('direction', 'from this run')} |",
    ]
    if "share_of_weights" in about:
        lines.append(f"| share of the weights | {about['share_of_weights']:.3%} |")
    if about.get("left_along_direction"):
        lines.append(f"| left along v after rounding | at most {max(about['left_along_direction'].values()):.1e} |")
    lines += ["\nHeads as layer:head, both from 0:\n", "```", named(edit.heads), "```"]
    lines += [f"\n{RESULTS}\n", figures or UNMEASURED]
    lines += ["\n## Use\n", usage(base, adapter)]
    lines += ["\n`reproduce.json` holds versions, fingerprints and commands; `edit.json` the edit itself."]
    lines += ["\n## Citation\n", f"```bibtex\n{CITATION}\n```", ""]
    return "\n".join(lines)


def with_figures(card: str, figures: str) -> str:
    """The card with other results in the place of its own; the rest, which may have been written by hand, stays."""
    return re.sub(rf"({RESULTS}\n\n).*?(?=\n\n## |\Z)", lambda match: match[1] + figures, card, count=1, flags=re.S)


def steered_card(base: ModelSource, about: Mapping[str, Any]) -> str:
    """README.md of a steered checkpoint. `about` is what stands in `steering.json`."""
    import yaml

    meta = yaml.safe_dump(front_matter(base, adapter=False), sort_keys=False, allow_unicode=True)
    part = "self-attention" if about["control"] == "attn" else "the MLP"
    layers = ", ".join(map(str, about["layers"]))
    return (
        f"---\n{meta}---\n\n# Steered {base_name(base).split('/')[-1]}\n\n"
        f"{base_name(base)} with {about['alpha']:+g} times the direction of thinking length ([ThinkEdit]({PAPER})) added to "
        f"what {part} writes, at every position of the layers {layers}.\n\n"
        "Adding a vector is a bias, so this is an ordinary Llama checkpoint whose projections have biases; they lie in "
        "`model-steering.safetensors`, and every other tensor is the base's. `steering.json` holds the settings.\n\n"
        f"## Citation\n\n```bibtex\n{CITATION}\n```\n"
    )


def title(base: ModelSource, adapter: bool) -> str:
    return f"ThinkEdit {base_name(base).split('/')[-1]}{' (LoRA)' if adapter else ''}"


def base_name(base: ModelSource) -> str:
    """How the card calls the base: never by a path of the machine that it was written on."""
    return hub_id(base) or Path(base.name).name


def named(heads: Sequence[tuple[int, int]]) -> str:
    texts = [f"{layer}:{head}" for layer, head in heads]
    return "\n".join(", ".join(texts[i : i + 16]) for i in range(0, len(texts), 16))


def usage(base: ModelSource, adapter: bool) -> str:
    name = base_name(base)
    if adapter:
        return (
            "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
            f'base = AutoModelForCausalLM.from_pretrained("{name}")\n'
            'model = PeftModel.from_pretrained(base, "THIS_REPOSITORY")\n```\n\n'
            f"vLLM: `vllm serve {name} --enable-lora --max-lora-rank 8 --lora-modules thinkedit=THIS_REPOSITORY`"
        )
    return "It is loaded like the base, by anything that loads the base; sampling settings and chat template are the base's."


def figures_table(summary: Mapping[str, Any], arm: str = "edited") -> str | None:
    """Accuracy and thinking length of base and edit, one row a benchmark; None where nothing was evaluated."""
    rows = []
    for task, part in (summary.get("evaluation") or {}).items():
        arms, change = part.get("arms", {}), part.get("comparisons", {}).get(arm)
        if "base" not in arms or arm not in arms or not change:
            continue
        accuracy = [f"{100 * arms[name]['accuracy']['value']:.2f}" for name in ("base", arm) if arms[name].get("accuracy")]
        length = [
            f"{arms[name]['thinking_length']['value']:,.0f}" for name in ("base", arm) if arms[name].get("thinking_length")
        ]
        cells = [" → ".join(accuracy), _interval(change["accuracy_difference"], 100), " → ".join(length)]
        cells.append(_interval(change["thinking_length_difference"], 1))
        rows.append(f"| {task} | {change['questions']:,} x {arms[arm]['samples']} | {' | '.join(cells)} |")
    if not rows:
        return None
    head = "| benchmark | questions x samples | accuracy, % | difference | thinking tokens | difference |\n"
    note = "\n\nDifferences with their 95 % intervals over questions. Lengths are of thoughts that were closed."
    return head + "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows) + note


def _interval(figure: Mapping[str, Any] | None, scale: float) -> str:
    if not figure or figure.get("value") is None:
        return "-"
    value, low, high = (scale * figure[key] for key in ("value", "low", "high"))
    digits = 2 if scale == 100 else 0
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def reproduce_record(
    base: ModelSource, about: Mapping[str, Any], versions: Mapping[str, str], commands: Sequence[str]
) -> dict[str, Any]:
    """`reproduce.json`: enough to make the same files again, without any path of this machine."""
    return {
        "base": base_name(base),
        **{key: about[key] for key in ("base_fingerprint", "direction_fingerprint", "identity") if key in about},
        "versions": dict(versions),
        "commands": [without_paths(command) for command in commands],
    }


def without_paths(command: str) -> str:
    """A command line whose absolute paths are cut to their last part."""
    return re.sub(r"(?<![\w.:/])/(?:[^\s/'\"]+/)+([^\s/'\"]+)", r"\1", command)
