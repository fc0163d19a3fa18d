"""What a model's config.json and generation_config.json say: its sizes, and how it likes to be sampled."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thinkedit.errors import ThinkEditError
from thinkedit.files import read_object

# Sizes beyond these are not believed: they would only ask for more memory than there is.
LARGEST = {
    "layers": 10_000,
    "hidden": 1 << 20,
    "heads": 1 << 16,
    "key_value_heads": 1 << 16,
    "head_dim": 1 << 16,
    "vocabulary": 1 << 26,
    "context": 1 << 32,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that the method needs; `head_dim` is the config's own, never hidden / heads where the config says otherwise."""

    layers: int
    hidden: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int
    context: int | None

    @property
    def all_heads(self) -> int:
        return self.layers * self.heads


def read_config(path: Path) -> dict[str, Any]:
    return read_object(path / "config.json")


def read_shape(path: Path) -> Shape:
    """The sizes from config.json alone; nothing is loaded."""
    config = read_config(path)
    config = config.get("text_config", config)
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        context = config.get("max_position_embeddings")
        shape = Shape(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            heads=heads,
            key_value_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            vocabulary=int(config["vocab_size"]),
            context=None if context is None else int(context),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ThinkEditError(f"{path / 'config.json'} does not say what a decoder must say ({error!r}).") from None
    absurd = {name: size for name, size in asdict(shape).items() if size is not None and not 1 <= size <= LARGEST[name]}
    if absurd:
        words = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in absurd.items())
        raise ThinkEditError(f"{path / 'config.json'} has sizes that no model has: {words}.")
    return shape


def read_generation_config(path: Path) -> dict[str, Any]:
    """What generation_config.json suggests; empty without one. Raises ThinkEditError where it is of the wrong kind."""
    file = path / "generation_config.json"
    if not file.is_file():
        return {}
    config = read_object(file)
    for name in ("temperature", "top_p", "top_k", "repetition_penalty"):
        value = config.get(name)
        if value is not None and not (type(value) in (int, float) and abs(value) < 1e9):
            raise ThinkEditError(f"{file}: {name} is {str(value)[:40]!r}, expected a number.")
    ends = config.get("eos_token_id")
    listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(type(end) is int and 0 <= end < LARGEST["vocabulary"] for end in listed):
        raise ThinkEditError(f"{file}: eos_token_id is {str(ends)[:40]!r}, expected a token id or a list of them.")
    return config
