"""Responses that were generated elsewhere, read as probe records: text without token ids, thoughts opened by a template."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thinkedit.chat import Chat
from thinkedit.errors import ThinkEditError
from thinkedit.files import read_json, read_json_lines
from thinkedit.records import Record, parse_record

QUESTION_NAMES = ("question", "problem", "prompt", "instruction")
RESPONSE_NAMES = ("response", "completion", "output", "generated_text", "text")


def read_responses(path: Path, chat: Chat, vocabulary: int) -> list[Record]:
    """Records from a .jsonl file or a .json list of objects with a question and a response (or records of ours).

    Each response is tokenised behind the prompt of the chat template; where the
    template opens the thought, the response begins inside of it. Token ids that come along are taken where the model's
    `vocabulary` has them and they spell the text. Raises ThinkEditError naming the line that is wrong.
    """
    records = []
    for number, row in _rows(path):
        try:
            if row.get("token_ids") and row.get("prompt_ids"):
                records.append(_checked(parse_record(row), chat, vocabulary))
            else:
                question, response = _field(row, QUESTION_NAMES), _field(row, RESPONSE_NAMES)
                records.append(_make(question, response, row, number - 1, chat))
        except ThinkEditError as error:
            raise ThinkEditError(f"{path}, line {number}: {error}") from None
    if not records:
        raise ThinkEditError(f"{path} holds no responses.")
    return records


def _checked(record: Record, chat: Chat, vocabulary: int) -> Record:
    """The record, if its token ids are this model's. Raises ThinkEditError where they cannot be."""
    away = "Leave prompt_ids and token_ids out to have the text tokenised here."
    largest = max(*record.prompt_ids, *record.token_ids)
    if largest >= vocabulary:
        raise ThinkEditError(f"token id {largest}, but this model has {vocabulary:,} tokens: another model's? {away}")
    if _squeezed(chat.decode(record.token_ids)) != _squeezed(record.text):
        raise ThinkEditError(f"the token ids do not spell the text: another tokenizer's, or one of them was changed? {away}")
    return record


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix != ".json":
        yield from read_json_lines(path)
        return
    rows = read_json(path)
    if not isinstance(rows, list):
        raise ThinkEditError(f"{path}: expected a JSON list of objects, found {type(rows).__name__}.")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ThinkEditError(f"{path}, entry {number}: expected an object, found {type(row).__name__}.")
        yield number, row


def _field(row: dict[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if isinstance(row.get(name), str) and (row[name].strip() or names is RESPONSE_NAMES):
            return row[name]
    raise ThinkEditError(f"expected a text under {' or '.join(names)}; the fields are {', '.join(row) or 'none'}.")


def _make(question: str, response: str, row: dict[str, Any], index: int, chat: Chat) -> Record:
    prompt_ids = chat.prompt_ids(question)
    opening = chat.think_tags[0]
    opened = chat.thought(prompt_ids, [], at_cap=False).status != "absent"
    if opened and response.lstrip().startswith(opening):  # the thought would be opened twice
        response = response.lstrip().removeprefix(opening).lstrip("\n")
    token_ids = chat.encode(response)
    thought = chat.thought(prompt_ids, token_ids, at_cap=False)
    return Record(
        task="responses",
        question_id=str(row.get("id", row.get("question_id", index))),
        question=question,
        gold=str(row.get("gold", row.get("answer", ""))),
        sample=0,
        seed=0,
        prompt_ids=prompt_ids,
        token_ids=token_ids,
        text=response,
        thinking_tokens=thought.tokens,
        status=thought.status,
        finish_reason="stop",
    )
