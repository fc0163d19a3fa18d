"""Models: their short names, where they are, what is inside of them, and whether the method fits them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.files import read_json
from thinkedit.tiny import MODEL_DIR

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHORT_NAMES = {
    "deepseek-qwen-1.5b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
    "deepseek-llama3-8b": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    "deepseek-qwen-14b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
    "deepseek-qwen-32b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
    "qwen3-1.7b": "Qwen/Qwen3-1.7B",
}
SHORT_NAMES |= {f"ThinkEdit-{name}": f"cesun/ThinkEdit-{name}" for name in list(SHORT_NAMES) if name[:4] == "deep"}
# The paper's number of edited heads (4 % to 6 % of all).
PAPER_HEADS = {
    "deepseek-qwen-1.5b": 20,
    "deepseek-llama3-8b": 40,
    "deepseek-qwen-14b": 80,
    "deepseek-qwen-32b": 160,
}
TINY = "tiny"
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
WEIGHT_FILES = "*.safetensors"
MODEL_FILES = ["*.json", WEIGHT_FILES, "*.txt", "*.jinja", "*.model", "LICENSE*", "README.md"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model on disk: `name` is what the user called it, `path` its directory."""

    name: str
    path: Path

    @property
    def slug(self) -> str:
        """A name for directories."""
        return Path(self.name).resolve().name if Path(self.name).exists() else self.name.replace("/", "--")


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


def find_model(name: str, weights: bool = True, cached: bool = False) -> ModelSource:
    """Finds a short name, a local directory or a hub id (from the local cache or the network).

    `weights` False is content with config and tokenizer, for models that a server runs; `cached` never asks the network.
    """
    if name == TINY:
        return ModelSource(TINY, MODEL_DIR)
    if Path(name).is_dir():
        return ModelSource(name, check_directory(Path(name), weights))
    hub_id = {short.lower(): full for short, full in SHORT_NAMES.items()}.get(name.lower(), name)
    if hub_id.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UsageError(
            f"{name!r} is no model that is known here: there is no such directory, and it is no hub id (owner/name).\n"
            f"Short names: {', '.join([TINY, *SHORT_NAMES])}."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        patterns = [name for name in MODEL_FILES if weights or name != WEIGHT_FILES]
        path = snapshot_download(hub_id, allow_patterns=patterns, etag_timeout=8, local_files_only=cached)
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ThinkEditError(
            f"The model {hub_id} is not in the local cache and could not be fetched ({first_line}).\n"
            "Check the name and the network, or give the path of a local directory that holds it."
        ) from None
    return ModelSource(name, check_directory(Path(path), weights))


def check_directory(path: Path, weights: bool = True) -> Path:
    if not (path / "config.json").is_file():
        raise ThinkEditError(f"{path} holds no model: it has no config.json.")
    if weights and not any(path.glob(WEIGHT_FILES)):
        raise ThinkEditError(f"{path} holds no *.safetensors weights, the only format that is read (it cannot run code).")
    return path


def read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ThinkEditError(f"{path / 'config.json'} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise ThinkEditError(f"{path / 'config.json'} is no JSON object.")
    return config


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
    config = read_json(file)
    if not isinstance(config, dict):
        raise ThinkEditError(f"{file} is no JSON object.")
    for name in ("temperature", "top_p", "top_k", "repetition_penalty"):
        if config.get(name) is not None and type(config[name]) not in (int, float):
            raise ThinkEditError(f"{file}: {name} is {str(config[name])[:40]!r}, expected a number.")
    ends = config.get("eos_token_id")
    if not all(
        type(end) is int and 0 <= end < LARGEST["vocabulary"] for end in (ends if isinstance(ends, list) else [ends or 0])
    ):
        raise ThinkEditError(f"{file}: eos_token_id is {str(ends)[:40]!r}, expected a token id or a list of them.")
    return config


def load_tokenizer(source: ModelSource) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not any((source.path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ThinkEditError(f"{source.path} holds no tokenizer (tokenizer.json, tokenizer.model or vocab.json is expected).")
    try:
        return AutoTokenizer.from_pretrained(str(source.path), local_files_only=True)
    except Exception as error:  # every tokenizer library fails in its own way
        raise ThinkEditError(f"The tokenizer of {source.name} cannot be loaded: {error}") from None


def load_model(source: ModelSource, device: "torch.device", dtype: str | None = None) -> "PreTrainedModel":
    """Loads a causal language model whose attention is ours; float32 on CPU, else the checkpoint's dtype."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from thinkedit.artifacts.checkpoint import Checkpoint
    from thinkedit.artifacts.consistency import check_whole
    from thinkedit.engines.attention import ATTENTION

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if read_config(source.path).get("quantization_config"):
        raise ThinkEditError(
            f"{source.name} is quantised; its output projections are no plain matrices, so it cannot be steered or edited.\n"
            "Use the unquantised checkpoint."
        )
    check_whole(Checkpoint(source.path))
    chosen = getattr(torch, dtype) if dtype else (torch.float32 if device.type == "cpu" else "auto")
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(source.path), dtype=chosen, attn_implementation=ATTENTION, local_files_only=True, use_safetensors=True
        )
        model = model.to(device)
    except Exception as error:  # transformers, safetensors and torch each fail in their own ways
        raise ThinkEditError(f"{source.name} cannot be loaded: {str(error).strip() or repr(error)}") from None
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():  # attention may hide it from a short probe
            raise ThinkEditError(
                f"{source.name} holds infinities or NaN in {name}: its weights are broken, or its numbers do not fit "
                f"{str(parameter.dtype).removeprefix('torch.')}.\nFetch it again; `thinkedit doctor` names all such tensors."
            )
    return model.eval().requires_grad_(False)


def choose_device(name: str | None = None) -> "torch.device":
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"{name!r} is no device; cpu or cuda (cuda:1, ...) is expected.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("No CUDA device is available here; use --device cpu.")
    return device


def default_heads(name: str, shape: Shape) -> int:
    """The paper's number of heads for its four models, three for the embedded one, else 4 % of all, at least one."""
    hub_names = {SHORT_NAMES[short]: count for short, count in PAPER_HEADS.items()}
    if name == TINY:
        return 3
    return PAPER_HEADS.get(name.lower()) or hub_names.get(name) or max(1, round(0.04 * shape.all_heads))
