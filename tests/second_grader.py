"""A second grader for numbers, written apart from the first: the last box or number behind the thought, as a decimal."""

import re
from decimal import Decimal, InvalidOperation

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")


def numeric_answer(response: str) -> Decimal | None:
    """The number that a response ends with; None where it never closed its thought or says none."""
    _, closed, said = response.partition("</think>")
    if not closed:
        return None
    start = said.rfind("\\boxed{")
    if start >= 0:
        depth, end = 0, start + 6
        for end in range(start + 6, len(said)):
            depth += {"{": 1, "}": -1}.get(said[end], 0)
            if depth == 0:
                break
        said = said[start + 7 : end]
    for mark in ("\\!", "\\,", "\\;", "\\ ", "{,}", "$", "\\", " "):
        said = said.replace(mark, "," if mark == "{,}" else "" if mark != " " else " ")
    said = re.sub(r"(?<=\d) (?=\d{3}\b)", "", said)
    numbers = NUMBER.findall(said)
    if not numbers:
        return None
    try:
        return Decimal(numbers[-1].replace(",", ""))
    except InvalidOperation:
        return None


def agrees(response: str, gold: str) -> bool:
    answer = numeric_answer(response)
    return answer is not None and answer == Decimal(gold.replace(",", ""))
