"""Questions and gold answers of a benchmark for records that came without them: by the text, else by the place."""

from dataclasses import replace
from pathlib import Path

from thinkedit.errors import ThinkEditError
from thinkedit.grading.normal import normal, squeezed
from thinkedit.imports.pieces import Piece
from thinkedit.records import Record
from thinkedit.tasks import Question, load_questions

AGREEMENT = 0.8  # share of known golds that must agree before places are trusted


def attach(piece: Piece, data_dir: Path) -> tuple[Piece, str | None]:
    """The piece with what the benchmark's files in `data_dir` know of its questions, and why not where it is unchanged.

    Multiple choice of the published project was asked for a 1-based index, so there the gold answer is that index.
    """
    split = "train" if piece.role == "probe" else None
    try:
        questions = load_questions(piece.task, split, data_dir)
    except ThinkEditError as error:
        return piece, str(error).splitlines()[0]
    by_text = {_key(question.text): question for question in questions}
    texts = [record.question for record in piece.records]
    matched = sum(_key(text) in by_text for text in texts if text)
    if matched and matched >= AGREEMENT * sum(map(bool, texts)):
        records = [
            _filled(record, found, piece) if (found := by_text.get(_key(record.question))) else record
            for record in piece.records
        ]
        return replace(piece, records=records), None
    places = {identity: place for place, identity in enumerate(dict.fromkeys(r.question_id for r in piece.records))}
    steered = piece.role in ("steer", "scan")
    if len(places) > len(questions) or (len(places) != len(questions) and not steered):
        return piece, f"{piece.task} has {len(questions):,} questions here, the file {len(places):,}"
    pairs = [(record, questions[places[record.question_id]]) for record in piece.records]
    known = [(record.gold, _gold(question, piece)) for record, question in pairs if record.gold]
    agreeing = sum(squeezed(normal(a)) == squeezed(normal(b)) for a, b in known)
    if known and agreeing < AGREEMENT * len(known):
        return piece, f"its gold answers are not those of {piece.task} in the same order"
    return replace(piece, records=[_filled(record, question, piece) for record, question in pairs]), None


def _key(text: str) -> str:
    return "".join(text.split())


def _filled(record: Record, question: Question, piece: Piece) -> Record:
    by_index = question.form == "choice" and piece.kind.startswith("published")
    return replace(
        record,
        question_id=question.id,
        question=question.text,
        gold=_gold(question, piece),
        form="number" if by_index else question.form,
        choices=None if by_index else list(question.choices) or None,
        group=question.group,
    )


def _gold(question: Question, piece: Piece) -> str:
    if question.form == "choice" and piece.kind.startswith("published"):
        return str("ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(question.gold) + 1)
    return question.gold
