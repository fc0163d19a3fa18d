"""The steered checkpoint: steering is a bias, so a checkpoint that holds the biases is a steered model for any engine.

Llama's config has switches that give every attention and MLP projection a bias (`attention_bias`, `mlp_bias`). Qwen2
and Mistral are Llamas with or without q/k/v biases as long as no sliding window is active, so their steered checkpoints
are Llama checkpoints: the base's tensors as they are, and a shard of biases beside them.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkedit.artifacts.card import steered_card
from thinkedit.artifacts.checkpoint import CARD, FLOATS, INDEX, MARKS, Checkpoint, check_target, tensor_bytes
from thinkedit.artifacts.copying import CONFIG, ModelCopy, Range, model_files
from thinkedit.artifacts.steered_tokenizer import tokenizer_files
from thinkedit.config import Shape, read_config, read_shape
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.files import as_json
from thinkedit.models import ModelSource

if TYPE_CHECKING:
    from torch import Tensor

    from thinkedit.engines.base import Biases

LLAMAS = ("llama", "qwen2", "mistral")
STEERED_MARK = "steering.json"
EXTRA = "model-steering.safetensors"
FOREIGN = ("sliding_window", "use_sliding_window", "max_window_layers", "layer_types", "auto_map", "_name_or_path")
# What a Llama config must say where the base's own class has another default.
SAID = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


def write_steered(source: ModelSource, biases: "Biases", out: Path, link: bool = False, **about: object) -> None:
    """Writes the base with `biases` added to what its attention or MLP writes; `out` appears whole or not at all.

    Biases that the base has are added to in the base's number format; new ones are float32, in a shard of their own.
    `link` makes hard links of the files that do not change, so that the steered model costs kilobytes.
    """
    check_target(source.path, out)
    base = Checkpoint(source.path)
    if how := base.quantisation():
        raise ThinkEditError(f"{source.name} is quantised ({how}); a steered checkpoint needs the unquantised model.")
    config = llama_config(source, any(control == "mlp" for _, control in biases))
    if not {"dtype", "torch_dtype"} & set(config):
        config["dtype"] = base_dtype(base)  # else it would be taken from whichever tensor comes first
    new, changed = _bias_tensors(base, read_shape(source.path), config, biases)
    sources, _ = model_files(source.path, base.files)
    shards = _shard_names(base)
    kept = {name: path for name, path in sources.items() if path not in base.files and name not in (*MARKS, INDEX, CARD)}
    tokenizer = tokenizer_files(source)
    written: dict[str, list[Range]] = {name: [] for name in tokenizer}
    for name in changed:
        place = base.tensors[name]
        written.setdefault(shards[place.file], []).append((place.start, place.size))
    with ModelCopy({**kept, **{shards[path]: path for path in base.files}}, out, link) as copy:
        copy.begin(written)
        for name, value in changed.items():
            copy.overwrite(shards[base.tensors[name].file], base.tensors[name].start, tensor_bytes(value))
        copy.add(EXTRA, _safetensors(new))
        copy.add(INDEX, as_json(_index(base, shards, new)))
        for name, content in tokenizer.items():
            copy.add(name, content)
        copy.add(STEERED_MARK, as_json(about))
        if about:
            copy.add(CARD, steered_card(source, about).encode())
        copy.add(CONFIG, as_json(config))


def llama_config(source: ModelSource, with_mlp: bool) -> dict[str, Any]:
    """The base's config as that of a Llama with biases. Raises UsageError for a model that is no Llama."""
    raw = read_config(source.path)
    kind = raw.get("model_type")
    if kind not in LLAMAS:
        raise UsageError(
            f"{source.name} is a {kind} model: no config of its kind has biases on o_proj and down_proj, and it is no Llama "
            f"({', '.join(LLAMAS)} are), so no checkpoint can hold its steering.\n"
            "Steer it while it runs: thinkedit steer --engine vllm, or --engine transformers."
        )
    from transformers import AutoConfig

    full = AutoConfig.from_pretrained(str(source.path), local_files_only=True)
    _check_attention(source.name, kind, raw, full)
    kept = {key: value for key, value in raw.items() if key not in FOREIGN}
    said = {key: getattr(full, key) for key in SAID if hasattr(full, key)}
    shape = read_shape(source.path)
    rope = {} if {"rope_parameters", "rope_theta"} & set(raw) else {"rope_parameters": dict(full.rope_parameters)}
    return {
        **kept,
        **said,
        **rope,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "head_dim": shape.head_dim,
        "attention_bias": True,
        "mlp_bias": bool(with_mlp or raw.get("mlp_bias")),
    }


def _check_attention(name: str, kind: str, raw: Mapping[str, Any], full: Any) -> None:
    window = getattr(full, "sliding_window", None)
    switched_on = kind == "mistral" or bool(getattr(full, "use_sliding_window", False))
    sliding = any(layer != "full_attention" for layer in raw.get("layer_types") or ())
    if kind != "llama" and ((switched_on and window and window < full.max_position_embeddings) or sliding):
        raise UsageError(
            f"{name} attends through a sliding window of {window} tokens, which no Llama does, so its steering cannot be "
            "kept in a checkpoint.\nSteer it while it runs: thinkedit steer --engine vllm, or --engine transformers."
        )


def _bias_tensors(
    base: Checkpoint, shape: Shape, config: Mapping[str, Any], biases: "Biases"
) -> tuple[dict[str, "Tensor"], dict[str, "Tensor"]]:
    """The biases that the base lacks (float32, zero where nothing steers), and its own ones that steering changes."""
    import torch

    wide, narrow = shape.heads * shape.head_dim, shape.key_value_heads * shape.head_dim
    inner = int(config["intermediate_size"])
    widths = {"q": wide, "k": narrow, "v": narrow, "o": shape.hidden} if config["attention_bias"] else {}
    names = {f"self_attn.{side}_proj.bias": width for side, width in widths.items()}
    if config["mlp_bias"]:
        names |= {"mlp.gate_proj.bias": inner, "mlp.up_proj.bias": inner, "mlp.down_proj.bias": shape.hidden}
    steered = {"self_attn.o_proj.bias": "attn", "mlp.down_proj.bias": "mlp"}
    new, changed = {}, {}
    for layer in range(shape.layers):
        for part, width in names.items():
            name = f"model.layers.{layer}.{part}"
            push = biases.get((layer, steered[part])) if part in steered else None  # type: ignore[arg-type]
            if name in base.tensors:
                if push is not None:
                    own = base.read(name)
                    changed[name] = (own.double() + push.double().cpu()).to(own.dtype)
            else:
                new[name] = torch.zeros(width) if push is None else push.detach().cpu().float()
    for name, value in {**new, **changed}.items():
        if name in base.tensors and base.tensors[name].shape != tuple(value.shape):
            raise ThinkEditError(f"{name} is {base.tensors[name].shape}, but the config says {tuple(value.shape)}.")
    return new, changed


def _shard_names(base: Checkpoint) -> dict[Path, str]:
    """Names of the base's files in a checkpoint of several: libraries take `model.safetensors` for the whole of it."""
    if len(base.files) > 1:
        return {path: path.name for path in base.files}
    return {base.files[0]: "model-00001-of-00002.safetensors"}


def _index(base: Checkpoint, shards: Mapping[Path, str], new: Mapping[str, "Tensor"]) -> dict[str, Any]:
    where = {name: shards[place.file] for name, place in base.tensors.items()} | dict.fromkeys(new, EXTRA)
    size = sum(place.size for place in base.tensors.values()) + sum(value.nbytes for value in new.values())
    count = sum(math.prod(place.shape) for place in base.tensors.values()) + sum(value.numel() for value in new.values())
    return {"metadata": {"total_size": size, "total_parameters": count}, "weight_map": dict(sorted(where.items()))}


def _safetensors(tensors: Mapping[str, "Tensor"]) -> bytes:
    from safetensors.torch import save

    return save(dict(tensors), {"format": "pt"})


def base_dtype(base: Checkpoint) -> str:
    """The number format of most of the weights, by torch's name."""
    kinds: dict[str, int] = {}
    for place in base.tensors.values():
        kinds[place.dtype] = kinds.get(place.dtype, 0) + place.size
    return FLOATS.get(max(kinds, key=lambda kind: kinds[kind]), "float32")
