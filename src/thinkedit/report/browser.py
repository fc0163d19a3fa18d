"""The questions that the page shows, with base and edited answers side by side, cut to a size that opens fast."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from thinkedit.metrics import grid, majority, paired
from thinkedit.records import Record
from thinkedit.report.evidence import BASE, Arms

QUESTIONS = 240
SAMPLES = 2
BUDGET = 3_000_000
THOUGHT_HEAD, THOUGHT_TAIL = 1_400, 500
TEXT = 1_200

Row = dict[str, Any]


def browser_rows(evaluation: dict[str, Arms], edit: str | None, limit: int = QUESTIONS) -> list[Row]:
    """At most `limit` questions, in order: every flip that fits in half of them first, the rest spread evenly.

    A row holds task, id, group, question, gold, flip (how its majority turned; for an arm alone, how it came out) and,
    for base and edit, up to two samples with their thoughts. Without an edit beside a base, the first arm stands alone.
    Long texts say how many characters were cut.
    """
    rows: list[Row] = []
    share = max(1, limit // max(1, len(evaluation)))
    for arms in evaluation.values():
        left = BASE if BASE in arms else next(iter(arms), None)
        if left is None:
            continue
        right = edit if edit in arms and edit != left else None
        rows += _task_rows(arms, left, right, share)
    size = 0
    for kept, row in enumerate(rows):
        size += _size(row)
        if size > BUDGET:
            return rows[:kept]
    return rows


def _task_rows(arms: Arms, left: str, right: str | None, limit: int) -> list[Row]:
    before, after = _by_question(arms[left]), _by_question(arms[right] if right else [])
    flips = _flips(arms[left], arms[right]) if right else _outcomes(arms[left])
    keys = [key for key in before if not right or key in after]
    flipped = [key for key in keys if flips.get(key) in ("won", "lost")]
    chosen = set(_spread(flipped, limit // 2))
    chosen |= set(_spread([key for key in keys if key not in chosen], limit - len(chosen)))
    rows = []
    for key in keys:
        if key in chosen:
            first = before[key][0]
            row: Row = {"task": first.task, "id": first.question_id, "group": first.group, "gold": clipped(first.gold)}
            row |= {"question": clipped(first.question), "flip": flips.get(key, ""), "arms": []}
            for name, records in ((left, before[key]), (right, after.get(key, []))):
                if name is not None:
                    row["arms"].append({"name": name, "samples": [_sample(record) for record in records[:SAMPLES]]})
            rows.append(row)
    return rows


def _flips(base: list[Record], edited: list[Record]) -> dict[tuple[str, str], str]:
    """won, lost, right, wrong or tied for each question, by the majority of its samples under both arms."""
    first, second = paired(grid(base), grid(edited))
    names = {(0.0, 1.0): "won", (1.0, 0.0): "lost", (1.0, 1.0): "right", (0.0, 0.0): "wrong"}
    return {
        key: names.get((float(a), float(b)), "tied")
        for key, a, b in zip(first.keys, majority(first), majority(second), strict=True)
    }


def _outcomes(records: list[Record]) -> dict[tuple[str, str], str]:
    """correct, failed or tied for each question of an arm that stands alone; nothing for what was not graded."""
    arm = grid(records)
    graded = {key: value for key, value in zip(arm.keys, arm.question_accuracy, strict=True) if not np.isnan(value)}
    return {key: "correct" if value > 0.5 else "failed" if value < 0.5 else "tied" for key, value in graded.items()}


def _by_question(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    parts: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        parts.setdefault((record.task, record.question_id), []).append(record)
    return {key: sorted(part, key=lambda record: record.sample) for key, part in parts.items()}


def _spread(keys: list[Any], count: int) -> list[Any]:
    """`count` of the keys, evenly spread."""
    if count >= len(keys):
        return keys
    return [keys[place * len(keys) // count] for place in range(count)] if count > 0 else []


def _sample(record: Record) -> Row:
    thought, reply = split_thought(record)
    if record.forced:
        reply = f"{reply}\n[asked for an answer] {record.forced}".strip()
    return {
        "correct": record.correct,
        "verdict": record.verdict,
        "answer": clipped(record.answer or "", 200),
        "tokens": record.thinking_tokens,
        "status": record.status,
        "thought": clipped(thought, THOUGHT_HEAD, THOUGHT_TAIL),
        "reply": clipped(reply, TEXT // 2),
    }


def split_thought(record: Record) -> tuple[str, str]:
    """What a response thought and what it said after it. The thought may have been opened by the prompt."""
    opening, closing = record.tags
    thought, closed, reply = record.text.partition(closing)
    if not closed and record.status not in ("truncated", "unclosed"):
        return "", record.text.strip()
    return thought.strip().removeprefix(opening).strip(), reply.strip()


def clipped(text: str, head: int = TEXT, tail: int = 0) -> str:
    """At most head + tail characters of a text, with a note of how many were cut between them."""
    cut = len(text) - head - tail
    if cut <= 80:
        return text
    return f"{text[:head]}\n[{cut:,} characters cut]\n{text[len(text) - tail :] if tail else ''}".rstrip()


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else 6 * len(value)
    if isinstance(value, dict):
        return sum(16 + _size(item) for item in value.values())
    return sum(_size(item) for item in value) if isinstance(value, list) else 8
