"""What a directory remembers of its run: `run.json`, one entry a step, and what a changed step makes out of date."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from thinkedit.errors import ThinkEditError
from thinkedit.files import content_hash, write_json
from thinkedit.pipeline.documents import MANIFEST, read_manifest

# What has to be made again when a step comes out differently.
DEPENDENTS = {
    "generate": ("extract", "steer", "scan", "heads", "edit", "evaluate"),
    "extract": ("steer", "scan", "heads", "edit", "evaluate"),
    "heads": ("edit", "evaluate"),
    "edit": ("evaluate",),
}
PACKAGES = ("thinkedit", "torch", "transformers", "tokenizers", "safetensors", "numpy", "math-verify")


@dataclass(frozen=True, slots=True)
class Manifest:
    """`run.json` of an open run. `still_there` raises where the directory is not the one any more that is held, `say`
    takes what people should know, `command` gives the command line of a step; `command_line` is the one at work.
    """

    directory: Path
    value: dict[str, Any]
    still_there: Callable[[], None]
    say: Callable[[str], None]
    command: Callable[[str], str]
    command_line: str | None

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        return self.value["steps"]

    @property
    def commands(self) -> list[str]:
        """The command lines that made what is here, this one included."""
        own = [self.command_line] if self.command_line and self.command_line not in self.value["commands"] else []
        return [*self.value["commands"], *own]

    def begin(self, step: str) -> None:
        """Says that the files of a step are being replaced: until `note`, they are not what the manifest says of them."""
        self.value["unfinished"] = sorted({*self.value.get("unfinished", []), step})
        self._write()

    def note(self, step: str, settings: Mapping[str, Any], **made: Any) -> None:
        """Writes down what a step did; what depends on it is forgotten if it came out differently."""
        before = self.steps.get(step)
        foreign = step == "generate" and self.steps.get("extract", {}).get("settings", {}).get("responses")
        if before is not None and before.get("identity") != made.get("identity") and not foreign:
            gone = [name for name in DEPENDENTS.get(step, ()) if self.steps.pop(name, None)]
            if gone:
                self.say(f"{step} came out differently than before; to be done again: {', '.join(gone)}")
        self.steps[step] = {"settings": dict(settings), **made}
        self.value["unfinished"] = [name for name in self.value.get("unfinished", []) if name != step]
        self.value["commands"] = self.commands
        self._write()

    def note_files(self, step: str, settings: Mapping[str, Any], shared: Any, files: Mapping[str, Any]) -> None:
        """The same for a step whose record files add up over several calls, as long as what they share is equal."""
        before, key = self.steps.get(step, {}), content_hash(shared)
        kept = before.get("files", {}) if before.get("shared") == key else {}
        self.note(step, settings, shared=key, files={**kept, **files})

    def needs(self, step: str) -> dict[str, Any]:
        """What an earlier step left. Raises ThinkEditError naming the command that makes it."""
        if step not in self.steps:
            raise ThinkEditError(f"{self.directory} has no result of this step yet; first run: {self.command(step)}")
        if step in self.value.get("unfinished", []):
            raise ThinkEditError(
                f"The last `thinkedit {step}` in {self.directory} was interrupted while it wrote its result. "
                f"Do it again: {self.command(step)}"
            )
        return self.steps[step]

    def reshaped(self, step: str, shaped: dict[str, Any]) -> dict[str, Any]:
        """Remembers what shapes the answers of a step; gives what shaped those before, the same where there were none."""
        before: dict[str, Any] = self.value.setdefault("shaped", {}).get(step, shaped)
        self.value["shaped"][step] = shaped
        return before

    def _write(self) -> None:
        self.still_there()
        write_json(self.directory / MANIFEST, self.value)


def open_manifest(directory: Path, model: str, fingerprint: str) -> dict[str, Any]:
    """Reads or begins `run.json`. Raises ThinkEditError where the directory belongs to another model."""
    path = directory / MANIFEST
    if path.is_file():
        value = read_manifest(directory)
        made_for = str(value.get("fingerprint"))
        if made_for != fingerprint and value["model"] == model:
            raise ThinkEditError(
                f"{model} is not the model any more that {directory} was made with: its weights, "
                f"configuration or tokenizer have changed (fingerprint {made_for[:12]} then, {fingerprint[:12]} now)."
                "\nStart again in another directory with --out, or put back what was there."
            )
        if made_for != fingerprint:
            raise ThinkEditError(
                f"{directory} belongs to {value['model']} (fingerprint {made_for[:12]}), "
                f"not to {model} ({fingerprint[:12]}).\n"
                "Give another directory with --out, or the model that it belongs to."
            )
    else:
        value = {"model": model, "fingerprint": fingerprint, "steps": {}}
    value["versions"] = versions()
    value.setdefault("commands", [])
    write_json(path, value)
    return value


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
