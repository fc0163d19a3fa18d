"""Which of several choices an answer names, by letter, by index or in the choice's own words."""

import re
from collections.abc import Sequence

from thinkedit.grading.answers import LETTERS, letter_at
from thinkedit.grading.compare import compare, text_key
from thinkedit.grading.normal import TEXT, normal, squeezed, unwrapped

LEADING_LETTER = re.compile(
    r"(?:\\text\s*\{\s*)?(?:(?:option|choice|answer)\s*:?\s*)?(?:[(\[](?-i:([A-Z]))[)\]]|(?-i:([A-Z]))(?:[).:,]|\s*$|\s+(?![=+*/^-])))",
    re.IGNORECASE,
)


def compare_choice(gold: str, answer: str, choices: Sequence[str]) -> tuple[bool, str]:
    """Whether the chosen letter is right, and that letter or, if none was chosen, the answer.

    `gold` is a letter, or a 0-based index where an index was asked for.
    """
    letters = LETTERS[: len(choices)] or LETTERS
    by_index = gold.strip().isdecimal()
    wanted = letter_at(gold.strip(), letters) or gold.strip().upper()
    chosen = _chosen(answer, choices, letters, by_index)
    return chosen == wanted, chosen or answer


def _chosen(answer: str, choices: Sequence[str], letters: str, by_index: bool) -> str | None:
    text = unwrapped(normal(answer)).strip("*_ ")
    alone = re.fullmatch(r"[(\[]?([a-zA-Z])[)\].:]*", text)
    if alone and alone[1].upper() in letters:
        return alone[1].upper()
    if by_index and (letter := letter_at(text, letters)):
        return letter
    listed = list(zip(letters, choices, strict=False))
    for key in (_literal_key, text_key):  # first with its unit, then without
        equal = [letter for letter, choice in listed if key(choice) == key(answer)]
        if len(equal) == 1:
            return equal[0]
    first = LEADING_LETTER.match(text)
    if first and (first[1] or first[2]) in letters:
        return first[1] or first[2]
    equal = [letter for letter, choice in listed if compare(choice, answer) is True]
    return equal[0] if len(equal) == 1 else None


def _literal_key(text: str) -> str:
    return squeezed(TEXT.sub(r"\1", text)).casefold().strip("$.")
