"""A run: one model, one directory that remembers everything, and what the steps share."""

import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkedit.chat import Chat, PromptStyle
from thinkedit.config import Shape, read_generation_config, read_shape
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.files import LOCK, content_hash, exclusive, write_json
from thinkedit.loading import load_tokenizer
from thinkedit.models import TINY, WEIGHT_FILES, ModelSource, find_model
from thinkedit.pipeline.defaults import Defaults, defaults_for
from thinkedit.pipeline.documents import read_manifest
from thinkedit.pipeline.machine import Machine, MachineOptions
from thinkedit.progress import Progress, Silent
from thinkedit.records import Record, RecordFile, read_entries

if TYPE_CHECKING:
    from torch import Tensor

    from thinkedit.artifacts.checkpoint import Checkpoint
    from thinkedit.engines.base import Ability, Engine, Fleet, Sampling
    from thinkedit.generation import Responder
    from thinkedit.grading import Grader

# What has to be made again when a step comes out differently.
DEPENDENTS = {
    "generate": ("extract", "steer", "scan", "heads", "edit", "evaluate"),
    "extract": ("steer", "scan", "heads", "edit", "evaluate"),
    "heads": ("edit", "evaluate"),
    "edit": ("evaluate",),
}
PACKAGES = ("thinkedit", "torch", "transformers", "tokenizers", "safetensors", "numpy", "math-verify")


@dataclass(frozen=True, slots=True)
class Options:
    """How the model is asked. None means: what the model suggests."""

    machine: MachineOptions = field(default_factory=MachineOptions)
    prompt: PromptStyle | None = None
    think_tags: tuple[str, str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int = 0
    data_dir: Path | None = None
    published_quirks: bool = False


class Run:
    """Holds a run directory for this process alone; use it as a context manager.

    `model` None takes the model that the directory belongs to, else the embedded one. `out` None is `runs/<model>`.
    Raises ThinkEditError where the directory belongs to another model or is in use.
    """

    def __init__(
        self,
        model: str | None = None,
        out: Path | str | None = None,
        options: Options = Options(),
        progress: Progress | None = None,
        command_line: str | None = None,
    ) -> None:
        self.options, self.progress, self.command_line = options, progress or Silent(), command_line
        self._given_model, self._given_out = model, Path(out) if out is not None else None
        self._exit = ExitStack()

    def __enter__(self) -> "Run":
        name = self._given_model
        if name is None and self._given_out is not None and (self._given_out / "run.json").is_file():
            name = read_manifest(self._given_out)["model"]
        weights = self.options.machine.engine != "openai" and not self.options.machine.base_url
        self.source: ModelSource = find_model(name or TINY, weights)
        self.directory = self._given_out or Path("runs") / self.source.slug
        self.shape: Shape = read_shape(self.source.path)
        stored = any(self.source.path.glob(WEIGHT_FILES))
        self.fingerprint = self.checkpoint.fingerprint() if stored else config_fingerprint(self.source.path)
        self._still_there = self._exit.enter_context(exclusive(self.directory))
        self._exit.callback(self._leave_nothing_empty)
        try:
            self.manifest = self._open_manifest()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._exit.close()

    # -------------------------------------------------------------------------------------------------- the manifest

    def _open_manifest(self) -> dict[str, Any]:
        path = self.directory / "run.json"
        if path.is_file():
            manifest = read_manifest(self.directory)
            made_for = str(manifest.get("fingerprint"))
            if made_for != self.fingerprint and manifest.get("model") == self.source.name:
                raise ThinkEditError(
                    f"{self.source.name} is not the model any more that {self.directory} was made with: its weights, "
                    f"configuration or tokenizer have changed (fingerprint {made_for[:12]} then, {self.fingerprint[:12]} now)."
                    "\nStart again in another directory with --out, or put back what was there."
                )
            if made_for != self.fingerprint:
                raise ThinkEditError(
                    f"{self.directory} belongs to {manifest.get('model')} (fingerprint {made_for[:12]}), "
                    f"not to {self.source.name} ({self.fingerprint[:12]}).\n"
                    "Give another directory with --out, or the model that it belongs to."
                )
        else:
            manifest = {"model": self.source.name, "fingerprint": self.fingerprint, "steps": {}}
        manifest["versions"] = versions()
        manifest.setdefault("commands", [])
        write_json(path, manifest)
        return manifest

    def _leave_nothing_empty(self) -> None:
        """A call that was refused before it did anything leaves no directory behind."""
        names = {path.name for path in self.directory.iterdir()} if self.directory.is_dir() else set()
        if names == {"run.json", LOCK} and not self.manifest["steps"]:
            for name in names:
                (self.directory / name).unlink()
            self.directory.rmdir()

    def begin(self, step: str) -> None:
        """Says that the files of a step are being replaced: until `note`, they are not what the manifest says of them."""
        self.manifest["unfinished"] = sorted({*self.manifest.get("unfinished", []), step})
        self._write_manifest()

    def note(self, step: str, settings: Mapping[str, Any], **made: Any) -> None:
        """Writes down what a step did; what depends on it is forgotten if it came out differently."""
        entry = {"settings": dict(settings), **made}
        before = self.manifest["steps"].get(step)
        foreign = step == "generate" and (self.step("extract") or {}).get("settings", {}).get("responses")
        if before is not None and before.get("identity") != made.get("identity") and not foreign:
            gone = [name for name in DEPENDENTS.get(step, ()) if self.manifest["steps"].pop(name, None)]
            if gone:
                self.progress.say(f"{step} came out differently than before; to be done again: {', '.join(gone)}")
        self.manifest["steps"][step] = entry
        self.manifest["unfinished"] = [name for name in self.manifest.get("unfinished", []) if name != step]
        if self.command_line and self.command_line not in self.manifest["commands"]:
            self.manifest["commands"].append(self.command_line)
        self._write_manifest()

    def _write_manifest(self) -> None:
        self._still_there()
        write_json(self.directory / "run.json", self.manifest)

    def note_files(self, step: str, settings: Mapping[str, Any], shared: Any, files: Mapping[str, Any]) -> None:
        """The same for a step whose record files add up over several calls, as long as what they share is equal."""
        before, key = self.manifest["steps"].get(step, {}), content_hash(shared)
        kept = before.get("files", {}) if before.get("shared") == key else {}
        self.note(step, settings, shared=key, files={**kept, **files})

    def step(self, name: str) -> dict[str, Any] | None:
        return self.manifest["steps"].get(name)

    def needs(self, name: str, command: str) -> dict[str, Any]:
        """What an earlier step left. Raises ThinkEditError naming the command that makes it."""
        entry = self.step(name)
        if entry is None:
            raise ThinkEditError(f"{self.directory} has no result of this step yet; first run: {self.command(command)}")
        if name in self.manifest.get("unfinished", []):
            raise ThinkEditError(
                f"The last `thinkedit {command}` in {self.directory} was interrupted while it wrote its result. "
                f"Do it again: {self.command(command)}"
            )
        return entry

    def kept(self) -> str:
        """What the directory holds by now, for people."""
        answers = sum(path.read_bytes().count(b"\n") for path in self.directory.glob("*/*.jsonl"))
        steps = ", ".join(self.manifest["steps"])
        return f"{self.directory} keeps {answers:,} answers" + (f" and the results of {steps}" if steps else "")

    def command(self, command: str) -> str:
        named = "" if command.split()[0] == "run" else "--model "
        model = "" if self.source.name == TINY else f" {named}{self.source.name}"
        out = f" --out {self.directory}" if self._given_out else ""
        return f"thinkedit {command}{model}{out}"

    # ------------------------------------------------------------------------------------------------------ the model

    @property
    def defaults(self) -> Defaults:
        return defaults_for(self.source.name)

    @cached_property
    def checkpoint(self) -> "Checkpoint":
        from thinkedit.artifacts.checkpoint import Checkpoint

        return Checkpoint(self.source.path)

    @cached_property
    def chat(self) -> Chat:
        style = self.options.prompt or ("raw" if self.options.published_quirks else "template")
        return Chat(load_tokenizer(self.source), style, self.options.think_tags)

    def check_asking(self) -> None:
        """Raises where the model cannot be asked at all, before data is fetched and weights are loaded."""
        self.chat.prompt_ids("What is 1 + 1?")
        self.sampling(1)

    @cached_property
    def machine(self) -> Machine:
        made = Machine(self.options.machine, self.source, self.shape, lambda: self.chat, self._end_ids, self.progress.say)
        self._exit.callback(made.close)
        return made

    def engine(self, *abilities: "Ability") -> "Engine | Fleet":
        return self.machine.engine(*abilities)

    @cached_property
    def grader(self) -> "Grader":
        from thinkedit.grading import Grader

        return self._exit.enter_context(Grader(lenient=self.options.published_quirks))

    @cached_property
    def _generation_config(self) -> dict[str, Any]:
        return read_generation_config(self.source.path)

    def _end_ids(self) -> list[int]:
        named = self._generation_config.get("eos_token_id")
        listed = named if isinstance(named, list) else [named] if named is not None else []
        return [*listed, *self.chat.end_ids]

    def sampling(self, max_tokens: int) -> "Sampling":
        """What was asked for, else what the model's generation_config says, else temperature 0.6 and top-p 0.95."""
        from thinkedit.engines.base import Sampling

        def choose(name: str, fallback: float) -> float:
            asked, own = getattr(self.options, name), self._generation_config.get(name)
            return asked if asked is not None else own if own is not None else fallback

        chosen = Sampling(
            max_tokens=max_tokens,
            temperature=choose("temperature", 0.6),
            top_p=choose("top_p", 0.95),
            top_k=int(choose("top_k", 0)),
            repetition_penalty=choose("repetition_penalty", 1.0),
        )
        if chosen.temperature < 0 or not 0 < chosen.top_p <= 1 or chosen.top_k < 0 or chosen.repetition_penalty <= 0:
            raise UsageError(
                f"This sampling makes no sense: {chosen}. Expected: temperature >= 0, 0 < top-p <= 1, top-k >= 0, "
                "repetition penalty > 0."
            )
        if max_tokens < 1:
            raise UsageError(f"The cap must be at least one token, not {max_tokens}.")
        return chosen

    def responder(self, engine: "Engine | Fleet", max_tokens: int, forced_tokens: int) -> "Responder":
        from thinkedit.generation import Responder

        return Responder(
            engine,
            self.chat,
            self.grader,
            self.sampling(max_tokens),
            self.options.seed,
            forced_tokens,
            self.progress.say,
        )

    def o_proj_weight(self, layer: int) -> "Tensor":
        return self.checkpoint.o_proj_weight(layer)

    # ---------------------------------------------------------------------------------------------------- the records

    def record_file(self, step: str, name: str, max_tokens: int, forced_tokens: int, task: str, **shaping: Any) -> RecordFile:
        """The file of records with exactly these settings: they are hashed into its name, so that none ever mix."""
        shaped = {
            **self.shaping(),
            "task": task,
            "max_tokens": max_tokens,
            "forced_tokens": forced_tokens,
            **shaping,
        }
        self._say_changes(step, {**self.shaping(), "max_tokens": max_tokens, "forced_tokens": forced_tokens})
        return RecordFile(self.directory / step / f"{name}-{content_hash(shaped)}.jsonl")

    def _say_changes(self, step: str, shaped: dict[str, Any]) -> None:
        """Says in what the answers of a step will differ from those before, which stay in files of their own."""
        shaped = shaped.pop("sampling") | shaped
        before = self.manifest.setdefault("shaped", {}).get(step, shaped)
        changed = [f"{name} {before.get(name)} -> {value}" for name, value in shaped.items() if before.get(name) != value]
        if changed:
            self.progress.say(f"{step}: other settings than last time, whose answers are kept apart: {', '.join(changed)}")
        self.manifest["shaped"][step] = shaped

    def shaping(self) -> dict[str, Any]:
        """What shapes every answer of this run, besides question, caps, steering and edit."""
        return {
            "fingerprint": self.fingerprint,
            "prompt": self.chat.style,
            "think_tags": list(self.chat.think_tags),
            "sampling": asdict(self.sampling(1)),
            "seed": self.options.seed,
            **self.machine.shaping,
            "quirks": self.options.published_quirks,
        }

    def file_entry(self, file: RecordFile, asked: Sequence[Record], samples: int) -> dict[str, Any]:
        """A records file as run.json names it: with the questions that were asked for, where it holds others too."""
        ids = {record.question_id for record in asked}
        more = any(record.question_id not in ids for record in file.records)
        path = str(file.path.relative_to(self.directory))
        return {"path": path, "samples": samples, "only": sorted(ids) if more else None, "records": len(asked)}

    def read_records(self, entries: Iterable[Mapping[str, Any]]) -> list[Record]:
        """The records that the entries ask for, and no others that their files hold."""
        return read_entries(self.directory, entries)


def config_fingerprint(path: Path) -> str:
    """Fingerprint of a model that a server runs, of which only config and tokenizer are here."""
    from thinkedit.artifacts.checkpoint import IDENTITY_FILES

    present = [path / name for name in IDENTITY_FILES if (path / name).is_file()]
    return content_hash([[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in present])


def tensor_hash(tensor: "Tensor") -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:16]


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
