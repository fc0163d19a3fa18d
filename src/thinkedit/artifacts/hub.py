"""Pushing an edited model, an adapter or a steered checkpoint to the Hugging Face hub: the plan first, then the upload."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thinkedit.artifacts.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from thinkedit.artifacts.checkpoint import CARD, MARKS
from thinkedit.artifacts.copying import TEMPLATES
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.files import read_object

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# What a model consists of. Records of a run (.jsonl), its manifest and its activations are never among it.
KINDS = {".json", ".safetensors", ".jinja", ".txt", ".model", ".md"}
NAMES = ("LICENSE", "NOTICE", "USE_POLICY")
OF_A_RUN = {"run.json", "summary.json", "heads.json", "activations.safetensors"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be uploaded: `files` as (name, bytes); `left_out` lies there too and stays; `warnings` for the eye."""

    directory: Path
    repository: str
    private: bool
    files: list[tuple[str, int]]
    left_out: list[str]
    warnings: list[str]

    @property
    def size(self) -> int:
        return sum(size for _, size in self.files)


def plan_push(directory: Path, repository: str, private: bool) -> Plan:
    """Looks at a directory and says what of it would go where. Raises UsageError for one that is none of this program's."""
    if not REPOSITORY.fullmatch(repository):
        raise UsageError(f"--repo {repository!r} is no repository; user/name is expected.")
    if not directory.is_dir():
        raise UsageError(f"{directory} is no directory.")
    adapter = (directory / ADAPTER_CONFIG).is_file()
    if (directory / "run.json").is_file():
        inside = [str(path.parent) for path in sorted(directory.glob("*/edit.json"))]
        named = f"; push {' or '.join(inside)}" if inside else ""
        raise UsageError(f"{directory} is a run with its records, which are never uploaded{named}.")
    if not adapter and not any((directory / mark).is_file() for mark in MARKS):
        raise UsageError(
            f"{directory} holds no model of this program (edit.json, steering.json or {ADAPTER_CONFIG} is expected); "
            "thinkedit edit writes one."
        )
    needed = (ADAPTER_WEIGHTS,) if adapter else ("config.json",)
    missing = [name for name in needed if not (directory / name).is_file()]
    if missing or not any(directory.glob("*.safetensors")):
        raise ThinkEditError(f"{directory} is incomplete: {', '.join(missing) or 'its weights'} missing. Make it again.")
    found = [path for path in sorted([*directory.rglob("*")]) if path.is_file()]
    chosen = [path for path in found if _belongs(path.relative_to(directory))]
    left_out = [str(path.relative_to(directory)) for path in found if path not in chosen]
    return Plan(
        directory,
        repository,
        private,
        [(str(path.relative_to(directory)), path.stat().st_size) for path in chosen],
        left_out,
        _warnings(directory, adapter),
    )


def _belongs(name: Path) -> bool:
    if any(part.startswith(".") for part in name.parts) or name.name in OF_A_RUN:
        return False
    if len(name.parts) > 1 and name.parts[:-1] != (TEMPLATES,):
        return False
    return name.suffix in KINDS or name.name.startswith(NAMES)


def _warnings(directory: Path, adapter: bool) -> list[str]:
    warnings = []
    if not (directory / CARD).is_file():
        warnings.append(f"there is no {CARD}, so the repository will have no card")
    base = str(read_object(directory / ADAPTER_CONFIG).get("base_model_name_or_path", "")) if adapter else ""
    if adapter and not REPOSITORY.fullmatch(base):
        warnings.append(f"{ADAPTER_CONFIG} names the base as {base}, which nobody else has; write its hub id there")
    return warnings


def push(plan: Plan, message: str = "Upload from thinkedit") -> str:
    """Creates the repository where there is none and uploads the plan's files in one commit; gives its address."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    if get_token() is None:
        raise ThinkEditError("You are not logged in to the hub. Run `hf auth login`, or set HF_TOKEN; nothing was uploaded.")
    api = HfApi()
    try:
        address = api.create_repo(plan.repository, private=plan.private, exist_ok=True)
        api.upload_folder(
            folder_path=plan.directory,
            repo_id=plan.repository,
            allow_patterns=_literally([name for name, _ in plan.files]),
            commit_message=message,
        )
    except OfflineModeIsEnabled:
        raise ThinkEditError("HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it and call again.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        hints = {401: "the token is not valid", 403: "the token may not write there", 409: "the repository is in the way"}
        reason = hints.get(status or 0, str(error).strip().splitlines()[0])
        raise ThinkEditError(
            f"The hub refused {plan.repository} ({status}: {reason}).\nCheck the name and the token (hf auth whoami); "
            "the same command can be called again."
        ) from None
    except (HTTPError, OSError) as error:  # the one of the HTTP library, whichever that is
        reason = str(error).strip() or type(error).__name__
        raise ThinkEditError(f"The hub could not be reached ({reason}). The same command can be called again.") from None
    return str(address)


def _literally(names: Sequence[str]) -> list[str]:
    """Names as patterns that match nothing else."""
    return [re.sub(r"([*?\[])", r"[\1]", name) for name in names]
