"""How large a model is and what a token of it costs, from its config alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thinkedit.config import Shape
from thinkedit.errors import ThinkEditError

WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Sizes:
    """`parameters` counts all weights; `active` those that one token passes through (fewer in a mixture of experts).

    `width` is the bytes of a number as the checkpoint stores it.
    """

    shape: Shape
    parameters: int
    active: int
    width: int

    @property
    def weight_bytes(self) -> int:
        return self.parameters * self.width

    @property
    def cache_bytes(self) -> int:
        """Keys and values of one token in all layers."""
        shape = self.shape
        return 2 * shape.layers * shape.key_value_heads * shape.head_dim * self.width

    def flops(self, context: float) -> float:
        """Of one token that attends to `context` others: two a weight, and two products with every key and value."""
        return 2 * self.active + 4 * self.shape.layers * self.shape.heads * self.shape.head_dim * context

    @property
    def activation_bytes(self) -> int:
        """What the one pass keeps of an example: three float32 means a layer."""
        shape = self.shape
        return 4 * shape.layers * (2 * shape.hidden + shape.heads * shape.head_dim)


def sizes_of(config: Mapping[str, Any], shape: Shape) -> Sizes:
    """Counts the matrices of a Llama-like decoder. Raises ThinkEditError where the config does not give their sizes."""
    config = config.get("text_config", config)
    try:
        inner = int(config["intermediate_size"])
        experts = int(config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts") or 0)
        expert_inner = int(config.get("moe_intermediate_size") or inner)
        used = int(config.get("num_experts_per_tok") or 0)
    except (KeyError, TypeError, ValueError):
        raise ThinkEditError("config.json does not say how wide the MLP is (intermediate_size).") from None
    attention = shape.hidden * shape.head_dim * 2 * (shape.heads + shape.key_value_heads)
    mlp = 3 * shape.hidden * (experts * expert_inner if experts else inner)
    used_mlp = 3 * shape.hidden * (used * expert_inner if experts else inner)
    embedding = shape.vocabulary * shape.hidden
    tied = bool(config.get("tie_word_embeddings", False))
    parameters = shape.layers * (attention + mlp) + embedding * (1 if tied else 2)
    active = shape.layers * (attention + used_mlp) + embedding  # reading an embedding is no product
    stored = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    return Sizes(shape, parameters, active, WIDTHS.get(stored, 2))
