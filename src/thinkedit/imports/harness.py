"""lm-evaluation-harness: `samples_<task>_<time>.jsonl`, one line a document and filter.

{"doc_id": 0, "doc": {"question": "...", "answer": "... #### 18"}, "target": "... #### 18", "resps": [["<think>..."]],
 "filtered_resps": ["18"], "filter": "flexible-extract", "metrics": ["exact_match"], "exact_match": 1.0}
"""

from pathlib import Path
from typing import Any

from thinkedit.errors import ThinkEditError
from thinkedit.files import read_json
from thinkedit.grading.answers import LETTERS, letter_at
from thinkedit.imports.pieces import Piece, model_and_arm
from thinkedit.imports.plain import QUESTION_NAMES, first_text
from thinkedit.imports.published import Hints
from thinkedit.records import Record
from thinkedit.tasks import TASK_NAMES
from thinkedit.tasks.base import form_of
from thinkedit.tasks.local import bare_gold

ACCURACIES = ("exact_match", "acc", "math_verify", "pass@1")


def is_samples(row: dict[str, Any]) -> bool:
    return "doc_id" in row and ("resps" in row or "filtered_resps" in row)


def read_samples(path: Path, rows: list[dict[str, Any]], hints: Hints) -> Piece:
    """Generated answers with lm-eval's own verdicts, where it has an accuracy. Several samples a document are kept apart."""
    first: dict[Any, dict[str, Any]] = {}
    for row in rows:
        kept = first.setdefault(row["doc_id"], row)
        # Several filters grade the same responses: a question counts as right where any of them found the answer.
        if kept is not row and (_verdict(row) or 0) > (_verdict(kept) or 0):
            first[row["doc_id"]] = row
    texts = {key: _responses(path, row) for key, row in first.items()}
    reader, notes = hints.reading([text for said in texts.values() for text in said], None)
    task = hints.task or _task(path)
    model, arm = _model(path, hints)
    filters = {str(row.get("filter")) for row in rows}
    if len(filters) > 1:
        notes.append(f"graded by {len(filters)} filters ({', '.join(sorted(filters))}); right where one of them says so")
    records = []
    for key, row in first.items():
        doc: dict[str, Any] = row["doc"] if isinstance(row.get("doc"), dict) else {}
        question = first_text(doc, QUESTION_NAMES) or _prompt(row)
        gold, form, choices = _gold(row, doc)
        share = _verdict(row)
        for sample, text in enumerate(texts[key]):
            found = reader.read(text, None, question)
            known = share is not None and (len(texts[key]) == 1 or share in (0, 1))
            right = bool(share) if known else None
            records.append(
                Record(
                    task, str(doc.get("id") or f"{task}/{key}"), question, gold, sample, 0, [], [],
                    found.text, found.tokens, found.status, "stop", correct=right,
                    verdict=None if right is None else "correct" if right else "wrong",
                    answer=_filtered(row, sample) if known else None, form=form, choices=choices,
                    group=first_text(doc, ("level", "group")) or None, edit=None if arm == "base" else arm,
                )
            )  # fmt: skip
    return Piece(path, "evaluate", "lm-eval samples", model, arm, task, records=records, notes=notes)


def _responses(path: Path, row: dict[str, Any]) -> list[str]:
    said = row.get("resps") or row.get("filtered_resps") or []
    flat = [one for part in said for one in (part if isinstance(part, list) else [part])]
    if not flat or not all(isinstance(one, str) for one in flat):
        raise ThinkEditError(
            f"{path}: document {row['doc_id']} has no generated text (log-likelihoods cannot be analysed here); "
            "run lm-eval on a generate_until task with --log_samples."
        )
    return flat


def _verdict(row: dict[str, Any]) -> float | None:
    named = [*(name for name in ACCURACIES if name in row), *(name for name in row.get("metrics") or [] if name in row)]
    value = row.get(named[0]) if named else None
    return float(value) if isinstance(value, int | float) else None


def _filtered(row: dict[str, Any], sample: int) -> str | None:
    answers = row.get("filtered_resps") or []
    flat = [one for part in answers for one in (part if isinstance(part, list) else [part])]
    answer = flat[sample] if sample < len(flat) else None
    return answer[:200] if isinstance(answer, str) else None


def _gold(row: dict[str, Any], doc: dict[str, Any]) -> tuple[str, str, list[str] | None]:
    choices = doc.get("choices")
    if isinstance(choices, dict):
        choices = choices.get("text")
    target = row.get("target")
    text = bare_gold(str(doc.get("gold") or (target if target not in (None, "") else doc.get("answer", ""))).strip())
    if isinstance(choices, list) and 2 <= len(choices) <= len(LETTERS):
        letters = LETTERS[: len(choices)]
        letter = letter_at(text, letters) or text.strip("() .").upper()
        if len(letter) == 1 and letter in letters:
            return letter, "choice", [str(choice) for choice in choices]
    return text, form_of(text) if text else "expression", None


def _prompt(row: dict[str, Any]) -> str:
    """What was asked, for documents that hold no question of their own."""
    asked = row.get("arguments")
    if isinstance(asked, dict) and isinstance(asked.get("gen_args_0"), dict):
        asked = asked["gen_args_0"].get("arg_0")
    while isinstance(asked, list) and asked:
        asked = asked[0]
    return asked if isinstance(asked, str) else ""


def _task(path: Path) -> str:
    """The task in `samples_<task>_<time>.jsonl`; ours where it has a name of ours."""
    name = path.stem.removeprefix("samples_")
    head, _, tail = name.rpartition("_")
    bare = head if head and tail[:2].isdecimal() else name
    return {known.lower().replace("_", "-"): known for known in TASK_NAMES}.get(bare.lower().replace("_", "-"), bare)


def _model(path: Path, hints: Hints) -> tuple[str | None, str]:
    """The model that the results file beside the samples names, else the folder, in which lm-eval writes `/` as `__`."""
    named = None
    for results in sorted(path.parent.glob("results_*.json"), reverse=True):
        value = read_json(results)
        if isinstance(value, dict):
            named = value.get("model_name") or (value.get("config") or {}).get("model_args")
            break
    if isinstance(named, str) and "pretrained=" in named:
        named = named.partition("pretrained=")[2].partition(",")[0]
    if not isinstance(named, str) or not named:
        named = path.parent.name.replace("__", "/") if "__" in path.parent.name else None
    model, arm = model_and_arm(named) if named else (None, "base")
    return hints.model or model, hints.label or arm
