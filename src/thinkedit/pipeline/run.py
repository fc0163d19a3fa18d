"""A run: one model, one directory that remembers everything, and what the steps share."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkedit.chat import Chat, PromptStyle
from thinkedit.config import Shape, read_generation_config, read_shape
from thinkedit.errors import UsageError
from thinkedit.files import LOCK, content_hash, exclusive
from thinkedit.loading import load_tokenizer
from thinkedit.models import TINY, WEIGHT_FILES, ModelSource, find_model
from thinkedit.pipeline.defaults import Defaults, defaults_for
from thinkedit.pipeline.documents import MANIFEST, read_manifest
from thinkedit.pipeline.machine import Machine, MachineOptions
from thinkedit.pipeline.manifest import Manifest, open_manifest
from thinkedit.progress import Progress, Silent
from thinkedit.records import Record, RecordFile, read_entries

if TYPE_CHECKING:
    from torch import Tensor

    from thinkedit.artifacts.checkpoint import Checkpoint
    from thinkedit.engines.base import Ability, Engine, Fleet, Sampling
    from thinkedit.generation import Responder
    from thinkedit.grading import Grader


LEAST_TEMPERATURE = 1e-5  # below it vLLM samples greedily, and logits over it leave the float32 range


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
        if name is None and self._given_out is not None and (self._given_out / MANIFEST).is_file():
            name = read_manifest(self._given_out)["model"]
        weights = self.options.machine.engine != "openai" and not self.options.machine.base_url
        self.source: ModelSource = find_model(name or TINY, weights)
        self.directory = self._given_out or Path("runs") / self.source.slug
        self.shape: Shape = read_shape(self.source.path)
        from thinkedit.artifacts.checkpoint import config_fingerprint

        stored = any(self.source.path.glob(WEIGHT_FILES))
        self.fingerprint = self.checkpoint.fingerprint() if stored else config_fingerprint(self.source.path)
        still_there = self._exit.enter_context(exclusive(self.directory))
        try:
            value = open_manifest(self.directory, self.source.name, self.fingerprint)
        except BaseException:
            self._exit.close()
            raise
        self.manifest = Manifest(self.directory, value, still_there, self.progress.say, self.command, self.command_line)
        self._exit.callback(self._leave_nothing_empty)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._exit.close()

    def _leave_nothing_empty(self) -> None:
        """A call that was refused before it did anything leaves no directory behind."""
        names = {path.name for path in self.directory.iterdir()} if self.directory.is_dir() else set()
        if names == {MANIFEST, LOCK} and not self.manifest.steps:
            for name in names:
                (self.directory / name).unlink()
            self.directory.rmdir()

    def kept(self) -> str:
        """What the directory holds by now, for people."""
        answers = sum(path.read_bytes().count(b"\n") for path in self.directory.glob("*/*.jsonl"))
        steps = ", ".join(self.manifest.steps)
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
        return Chat(load_tokenizer(self.source), style, self.options.think_tags, self.shape.vocabulary)

    def check_asking(self) -> None:
        """Raises where the model cannot be asked at all, before data is fetched and weights are loaded."""
        self.chat.prompt_ids("What is 1 + 1?")
        self.sampling(1)

    @cached_property
    def machine(self) -> Machine:
        made = Machine(self.options.machine, self.source, self.shape, lambda: self.chat, self.end_ids, self.progress.say)
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

    def end_ids(self) -> list[int]:
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
        sound = chosen.temperature == 0 or LEAST_TEMPERATURE <= chosen.temperature < inf
        if not (sound and 0 < chosen.top_p <= 1 and chosen.top_k >= 0 and 0 < chosen.repetition_penalty < inf):
            raise UsageError(
                f"Temperature {chosen.temperature}, top-p {chosen.top_p}, top-k {chosen.top_k} and repetition penalty "
                f"{chosen.repetition_penalty} make no sense together. Expected: temperature 0 (greedy) or at least "
                f"{LEAST_TEMPERATURE}, 0 < top-p <= 1, top-k >= 0, repetition penalty > 0, all of them finite."
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
        before = self.manifest.reshaped(step, shaped)
        changed = [f"{name} {before.get(name)} -> {value}" for name, value in shaped.items() if before.get(name) != value]
        if changed:
            self.progress.say(f"{step}: other settings than last time, whose answers are kept apart: {', '.join(changed)}")

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
        file.sync()
        path = str(file.path.relative_to(self.directory))
        return {"path": path, "samples": samples, "only": sorted(ids) if more else None, "records": len(asked)}

    def read_records(self, entries: Iterable[Mapping[str, Any]]) -> list[Record]:
        """The records that the entries ask for, and no others that their files hold."""
        return read_entries(self.directory, entries)
