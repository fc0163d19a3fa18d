"""Tokenizers and models into memory, by transformers: never code of the model's own, never a pickle."""

from typing import TYPE_CHECKING, Any

from thinkedit.config import read_config
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.models import ModelSource

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(source: ModelSource) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not any((source.path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ThinkEditError(f"{source.path} holds no tokenizer (tokenizer.json, tokenizer.model or vocab.json is expected).")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source.path), local_files_only=True)
        tokenizer.decode(tokenizer("What is 1 + 1?").input_ids)  # some broken settings show only in use
        return tokenizer
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
    for name, buffer in model.named_buffers():  # of others, a mask may well hold infinities
        if name.endswith("inv_freq") and not torch.isfinite(buffer).all():
            raise ThinkEditError(f"The config of {source.name} makes infinities or NaN in {name}: a number in it is broken.")
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
