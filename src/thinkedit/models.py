"""Models: their short names, where they are, and how many heads the paper edits."""

import os
from dataclasses import dataclass
from pathlib import Path

from thinkedit.config import Shape
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.tiny import MODEL_DIR

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
        return Path(self.name).resolve().name if os.path.exists(self.name) else self.name.replace("/", "--")


def find_model(name: str, weights: bool = True, cached: bool = False) -> ModelSource:
    """Finds a short name, a local directory or a hub id (from the local cache or the network).

    `weights` False is content with config and tokenizer, for models that a server runs; `cached` never asks the network.
    """
    if name == TINY:
        return ModelSource(TINY, MODEL_DIR)
    if os.path.isdir(name):
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


def default_heads(name: str, shape: Shape) -> int:
    """The paper's number of heads for its four models, three for the embedded one, else 4 % of all, at least one."""
    hub_names = {SHORT_NAMES[short]: count for short, count in PAPER_HEADS.items()}
    if name == TINY:
        return 3
    return PAPER_HEADS.get(name.lower()) or hub_names.get(name) or max(1, round(0.04 * shape.all_heads))
