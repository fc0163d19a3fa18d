"""The edit as a LoRA adapter: over one layer it is rank one, so an adapter of rank 1 on o_proj says it exactly.

PEFT and vLLM read the directory as it is. With `r = lora_alpha = 1` the scale is 1, so `W + B @ A` is the edited
weight before its rounding to the checkpoint's number format.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thinkedit.edit import Edit
from thinkedit.errors import ThinkEditError
from thinkedit.files import read_object, write_json

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model.model.layers.{layer}.self_attn.o_proj.lora_{side}.weight"
LORA = re.compile(r"layers\.(\d{1,6})\.self_attn\.o_proj\.lora_([AB])\.(?:default\.)?weight$")


def write_adapter(edit: Edit, o_proj_weight: Callable[[int], "Tensor"], out: Path, base_model: str) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors` (float32) into the directory `out`.

    `o_proj_weight` gives W_o [hidden, heads * head_dim] of a layer, one at a time; `base_model` is the name or path
    under which the adapter's readers find the base.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for layer in edit.layers:
        a, b = edit.low_rank(layer, o_proj_weight(layer))
        for side, factor in (("A", a), ("B", b)):
            tensors[PREFIX.format(layer=layer, side=side)] = factor.float().contiguous()
    out.mkdir(parents=True, exist_ok=True)
    (out / ADAPTER_WEIGHTS).write_bytes(save(tensors, {"format": "pt"}))
    write_json(out / ADAPTER_CONFIG, adapter_config(edit, base_model))


def adapter_config(edit: Edit, base_model: str) -> dict[str, object]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": 1,
        "lora_alpha": 1,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["o_proj"],
        "layers_to_transform": edit.layers,
        "layers_pattern": "layers",
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter as it lies on disk: the factors of each layer's o_proj, scale included, and what else it holds.

    `factors` maps a layer to A [rank, heads * head_dim] and B [hidden, rank]; the change is B @ A. `foreign` names what
    an edit has no use for.
    """

    directory: Path
    base_model: str
    factors: dict[int, tuple["Tensor", "Tensor"]]
    foreign: list[str]

    @classmethod
    def read(cls, directory: Path) -> "Adapter":
        """Raises ThinkEditError for a directory that holds no LoRA adapter in safetensors."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        config = read_object(directory / ADAPTER_CONFIG)
        if config.get("peft_type") != "LORA":
            raise ThinkEditError(f"{directory / ADAPTER_CONFIG} describes no LoRA adapter.")
        if not (directory / ADAPTER_WEIGHTS).is_file():
            raise ThinkEditError(f"{directory} holds no {ADAPTER_WEIGHTS}, the only format that is read (it cannot run code).")
        try:
            tensors = load_file(directory / ADAPTER_WEIGHTS)
        except SafetensorError as error:
            raise ThinkEditError(f"{directory / ADAPTER_WEIGHTS} is damaged: {error}") from None
        sides: dict[int, dict[str, Tensor]] = {}
        foreign = [
            f"{key} = {config[key]}"
            for key in ("use_dora", "modules_to_save", "alpha_pattern", "rank_pattern")
            if config.get(key)
        ]
        for name, tensor in tensors.items():
            match = LORA.search(name)
            if match:
                sides.setdefault(int(match[1]), {})[match[2]] = tensor
            elif tensor.any():
                foreign.append(name)
        factors = {}
        for layer, pair in sides.items():
            if set(pair) != {"A", "B"}:
                raise ThinkEditError(f"{directory / ADAPTER_WEIGHTS} lacks one side of layer {layer}'s LoRA.")
            ranks, alpha = {pair["A"].shape[0], pair["B"].shape[-1]}, config.get("lora_alpha")
            if {pair["A"].ndim, pair["B"].ndim} != {2} or len(ranks) != 1 or 0 in ranks:
                raise ThinkEditError(f"{directory / ADAPTER_WEIGHTS}: the sides of layer {layer}'s LoRA do not fit together.")
            rank = ranks.pop()
            alpha = rank if alpha is None else alpha
            if type(alpha) not in (int, float):
                raise ThinkEditError(f"{directory / ADAPTER_CONFIG}: lora_alpha is {str(alpha)[:40]!r}, expected a number.")
            scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
            factors[layer] = (pair["A"].double(), scale * pair["B"].double())
        return cls(directory, str(config.get("base_model_name_or_path")), factors, foreign)
