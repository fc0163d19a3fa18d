"""Files of the published ThinkEdit project, as its scripts write them and its archive holds them.

    responses/MODEL_gsm8k.json                                          a list of question, response, thinking, thinking_length
    ThinkEdit_model_evaluation_results/TASK/MODEL/instruction_/results_samples10.json
                                                                        sample_results: accuracy, think_lengths, correctness
    llm_responses_TASK_offline__MODEL_samples10.json                    questions and responses, ungraded
    gsm8k_all_layer_thinking_length_steering_results/CONTROL/MODEL/ALPHA.json
    gsm8k_layerwise_thinking_length_steering_results/CONTROL/MODEL/LAYER_ALPHA.json
                                                                        responses, think_lengths, correctness
    directions/MODEL_thinking_length_direction_gsm8k_attn.pt            [layers, 1, hidden]

Where a file lies says which model, task and setting it is of; all else is told by its content. In these files a thought
that never closed has the cap as its length and one that was never opened -1; here they become truncated and absent.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from thinkedit.errors import ThinkEditError
from thinkedit.imports.pieces import Piece, model_and_arm
from thinkedit.imports.thoughts import Reader, opened_by_prompt
from thinkedit.models import SHORT_NAMES
from thinkedit.records import Record
from thinkedit.tasks import TASK_NAMES
from thinkedit.tasks.base import form_of

PROBE_CAP, EVALUATION_CAP, STEERING_CAP, HARD_STEERING_CAP = 4096, 16384, 8192, 16384
CONTROLS = ("attn", "mlp")
QUESTION = re.compile(r"<｜User｜>(.*)<｜Assistant｜>", re.DOTALL)
SETTING = re.compile(r"(?:(?P<layer>\d+)_)?(?P<alpha>[-+]?\d*\.?\d+(?:e[-+]?\d+)?)")


@dataclass(frozen=True, slots=True)
class Hints:
    """What the user said about files that do not say it themselves."""

    reader: Reader
    model: str | None = None
    label: str | None = None
    task: str | None = None
    cap: int | None = None

    def reading(self, texts: Sequence[str], cap: int | None) -> tuple[Reader, list[str]]:
        """How the texts of one file are read, and what had to be inferred for it."""
        opened, told = opened_by_prompt(texts, self.reader.tags)
        return replace(self.reader, opened=opened, cap=self.cap or cap), [told] if told else []


def read_probe(path: Path, rows: list[dict[str, Any]], hints: Hints) -> Piece:
    """One response to each training question. The lengths of thoughts that never closed were never counted."""
    reader, notes = hints.reading([row["response"] for row in rows], PROBE_CAP)
    task = hints.task or task_in(path) or "gsm8k"
    records = []
    for place, row in enumerate(rows):
        length = row.get("thinking_length")
        found = reader.read(row["response"], length if isinstance(length, int) and length >= 0 else None, row["question"])
        records.append(
            Record(
                task, f"{task}/train/{place}", row["question"], "", 0, 0, [], [],
                found.text, found.tokens, found.status, "stop", forced=found.forced,
            )
        )  # fmt: skip
    model, _ = _model(path, hints)
    return Piece(path, "probe", "published probe", model, task=task, records=records, notes=notes)


def read_evaluation(path: Path, value: dict[str, Any], hints: Hints) -> Piece:
    """n graded answers to each question; their verdicts are kept as they are."""
    runs = _runs(path, value["sample_results"])
    golds = value.get("answers") or []
    texts = [text for run in runs for text in run.get("response_texts") or [] if isinstance(text, str)]
    reader, notes = hints.reading(texts, _cap_of(runs) or EVALUATION_CAP)
    task = hints.task or task_in(path) or path.stem
    model, arm = _model(path, hints)
    records: list[Record] = []
    for sample, run in enumerate(runs):
        lengths, correct, answers = run["think_lengths"], run["correctness"], run.get("predicted") or []
        said = run.get("response_texts") or []
        for place, (length, right) in enumerate(zip(lengths, correct, strict=True)):
            found = reader.read(said[place] if place < len(said) else None, int(length))
            gold = str(golds[place]) if place < len(golds) and golds[place] is not None else ""
            answer = answers[place] if place < len(answers) else None
            records.append(
                Record(
                    task, f"{task}/{place}", "", gold, sample, 0, [], [], found.text, found.tokens, found.status,
                    "length" if found.status == "truncated" else "stop",
                    answer=None if answer is None else str(answer), correct=bool(right),
                    verdict="correct" if right else "wrong" if answer is not None or not answers else "no answer",
                    forced=found.forced, form=form_of(gold) if gold else "expression", edit=None if arm == "base" else arm,
                )
            )  # fmt: skip
    if not texts:
        notes.append("it holds verdicts and lengths but no texts, so it cannot be graded again")
    return Piece(path, "evaluate", "published evaluation", model, arm, task, records=records, notes=notes)


def read_dump(path: Path, value: dict[str, Any], hints: Hints) -> Piece:
    """The responses of an evaluation before they were graded: [sample][question]."""
    questions, samples = value["questions"], value["responses"]
    texts = [one.get("content") or "" for sample in samples for one in sample]
    reader, notes = hints.reading(texts, EVALUATION_CAP)
    task = hints.task or task_in(path) or path.stem
    model, arm = _model(path, hints)
    records = []
    for number, sample in enumerate(samples):
        for place, one in enumerate(sample):
            length = one.get("thinking_length")
            found = reader.read(one.get("content") or "", length if isinstance(length, int) else None, questions[place])
            records.append(
                Record(
                    task, f"{task}/{place}", str(questions[place]), "", number, 0, [], [],
                    found.text, found.tokens, found.status, "length" if found.status == "truncated" else "stop",
                    forced=found.forced, edit=None if arm == "base" else arm,
                )
            )  # fmt: skip
    notes.append("it has no gold answers; --data-dir with the benchmark's files brings them")
    return Piece(path, "evaluate", "published responses", model, arm, task, records=records, notes=notes)


def read_steering(path: Path, value: dict[str, Any], hints: Hints) -> Piece:
    """Answers under one strength. Responses without any thought were counted in think_lengths and dropped elsewhere."""
    setting = SETTING.fullmatch(path.stem)
    control = next((name for name in CONTROLS for part in (path.parent.parent.name, *path.parts) if name in part), None)
    if setting is None or control is None:
        raise ThinkEditError(
            f"{path} holds steered answers, but where it lies does not say how: expected .../thinking_length_attn (or _mlp)"
            "/MODEL/ALPHA.json or LAYER_ALPHA.json."
        )
    layer, alpha = int(setting["layer"]) if setting["layer"] else None, float(setting["alpha"])
    hard = "math" in str(path).lower()
    task = hints.task or ("MATH-level5-140" if hard else task_in(path) or "gsm8k")
    reader, notes = hints.reading(value["responses"], HARD_STEERING_CAP if hard else STEERING_CAP)
    lengths, texts, correct = value["think_lengths"], value["responses"], value["correctness"]
    answered = [place for place, length in enumerate(lengths) if length != -1]
    if len(texts) == len(lengths):
        answered = list(range(len(lengths)))
    if not len(answered) == len(texts) == len(correct):
        raise ThinkEditError(f"{path}: {len(texts)} responses and {len(correct)} verdicts do not fit {len(lengths)} lengths.")
    where = {place: kept for kept, place in enumerate(answered)}
    model, _ = _model(path, hints)
    records = []
    for place, length in enumerate(lengths):
        kept = where.get(place)
        text = texts[kept] if kept is not None else None
        asked = QUESTION.search(text) if text else None
        found = reader.read(text, int(length))
        right = bool(correct[kept]) if kept is not None else None
        records.append(
            Record(
                task, f"{task}/test/{place}", asked[1].strip() if asked else "", "", 0, 0, [], [],
                found.text, found.tokens, found.status, "length" if found.status == "truncated" else "stop",
                correct=right, verdict=None if right is None else "correct" if right else "wrong", forced=found.forced,
                control=control, alpha=alpha, layer=layer,
            )
        )  # fmt: skip
    role: Literal["steer", "scan"] = "steer" if layer is None else "scan"
    kind = "published steering" if layer is None else "published layer scan"
    name = f"{control}-{alpha:g}" if layer is None else f"{control}-{layer}-{alpha:g}"
    return Piece(path, role, kind, model, task=task, setting=name, control=control, records=records, notes=notes)


def read_direction_piece(path: Path, hints: Hints) -> Piece:
    """A direction, checked by loading it without running code."""
    from thinkedit.directions import load_direction

    direction = load_direction(path)
    model = hints.model or path.name.partition("_thinking_length")[0]
    layers, hidden = direction.vectors.shape
    return Piece(
        path, "direction", "direction", model_and_arm(model)[0], control=direction.control, notes=[f"{layers} x {hidden}"]
    )


def task_in(path: Path) -> str | None:
    """The benchmark that a file is of: the longest name of one in its own name, else in that of a folder above it."""
    for part in (path.stem, *reversed(path.parts[-5:-1])):
        text = part.lower().replace("_", "-")
        found = [n for n in TASK_NAMES if re.search(rf"(?<![a-z0-9]){n.lower().replace('_', '-')}(?![a-z0-9])", text)]
        if found:
            return max(found, key=len)
    return None


def _model(path: Path, hints: Hints) -> tuple[str | None, str]:
    """Base model and arm: what the user said, else the first model's name in the path, else None and base."""
    named = _model_in(path)
    model, arm = model_and_arm(named) if named else (None, "base")
    return hints.model or model, hints.label or arm


def _model_in(path: Path) -> str | None:
    """A known model's name in the path, else the folder that the published layout names after the model."""
    for part in reversed(path.parts):
        named = [name for name in SHORT_NAMES if name.lower() in part.lower()]
        if named:
            return max(named, key=len)
    parts = path.parts
    if len(parts) > 2 and parts[-2].startswith("instruction"):
        return parts[-3]
    if len(parts) > 2 and any(control in parts[-3] for control in CONTROLS):
        return parts[-2]
    if path.parent.name == "responses" and "_" in path.stem:
        return path.stem.rpartition("_")[0]
    return None


def _runs(path: Path, value: Any) -> list[dict[str, Any]]:
    """The sample runs, however they are held; ThinkEditError where lengths and verdicts are not one a question."""
    runs: list[Any] = list(_each(value))
    for number, run in enumerate(runs, start=1):
        lengths, correct = (run.get(name) if isinstance(run, dict) else None for name in ("think_lengths", "correctness"))
        if not isinstance(lengths, list) or not isinstance(correct, list) or len(lengths) != len(correct):
            raise ThinkEditError(f"{path}, sample {number}: expected think_lengths and correctness of the same length.")
    if not runs or len({len(run["correctness"]) for run in runs}) != 1:
        raise ThinkEditError(f"{path}: expected at least one sample, and the same questions in each.")
    return runs


def _each(value: Any) -> Iterator[Any]:
    """A list of runs, a mapping of runs, or one mapping of lists of runs."""
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict) and all(isinstance(item, dict) for item in value.values()):
        yield from value.values()
    elif isinstance(value, dict) and isinstance(value.get("correctness"), list):
        nested = value["correctness"] and isinstance(value["correctness"][0], list)
        if not nested:
            yield value
            return
        for place in range(len(value["correctness"])):
            yield {name: item[place] for name, item in value.items() if isinstance(item, list) and place < len(item)}


def _cap_of(runs: list[dict[str, Any]]) -> int | None:
    """The cap that a file used: its largest length where that is a power of two, or a round 1,000, met exactly."""
    longest = max((int(length) for run in runs for length in run["think_lengths"]), default=0)
    return longest if longest >= 1024 and (longest & (longest - 1) == 0 or longest % 1000 == 0) else None
