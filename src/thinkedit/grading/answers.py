r"""The final answer in what a model wrote after its thought: the last box, else a stated answer, else the last number.

    "... so she has $12 \times 2 = 24$ eggs. **Answer:** \boxed{24}"     24
    "The answer is $\frac{1}{2}$."                                       \frac{1}{2}
    "So Janet makes 18 dollars every day."                               18   (where a number was asked for)

Every search takes linear time, whatever the text.
"""

import re
from collections.abc import Sequence

from thinkedit.grading.normal import plain_number
from thinkedit.grading.words import in_digits

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST_BOXES = 20  # empty boxes that are passed over before giving up
LONGEST_BOX = 100_000
TAIL = 10_000  # without a box, the answer is looked for in this many last characters
LONGEST_STATEMENT = 500

BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
BARE_TOKEN = re.compile(r"-?\d+(?:\.\d+)?|\\?[^\W_]+")
STATED = re.compile(
    r"(?:\banswer[ \t*_]*(?:\bis\b|:|=)|^[ \t]*\#{4}(?!\#))[\s*_:]*(?P<rest>[^\n]+)", re.IGNORECASE | re.MULTILINE
)
CLAUSE = re.compile(r",\s|;|\s\((?=[a-z])|\b(?:because|since|where|with)\b")
MATHS = re.compile(r"\$\$?([^$\n]+)\$|\\\(([^\n]+?)\\\)|\\\[([^\n]+?)\\\]")
SENTENCE = re.compile(r"[^.\n]+(?:\.(?=\S)[^.\n]+)*")
NUMBER = re.compile(
    r"""(?<![\w.])(?:(?<![)\]}])[-\u2212])?\\?\$?(?:
        (?:\d+\s*)?\\[dtc]?frac\s*(?:\{\s*\d+\s*\}|\d)\s*(?:\{\s*\d+\s*\}|\d)
      | (?<!\d:)(?:\d{1,3}(?:(?:,|\{,\}|,?\\[!,])\d{3})+(?!\d)|\d+(?!\d))(?!:(?!00)\d)(?:\.\d+)?
            (?:\s?/\s?\d+(?![\d/])|\s(?:hundred|thousand|million|billion|trillion|dozen)\b)?
      | \.\d+)""",
    re.VERBOSE,
)
# The letter of a choice in free text, the surest way of writing it first.
LONE_LETTER = re.compile(r"^[ \t*_$(\[]*([A-Z])[ \t*_$)\].]*$", re.MULTILINE)
NAMED_LETTER = re.compile(
    r"\b(?:option|choice|answer|letter)(?::|[ \t]is\b)?[ \t*_$(\[]+([A-Z])\b"
    r"|\b([A-Z])[*_)]*[ \t]is[ \t](?:the[ \t])?(?:correct|right)"
    r"|\(([A-Z])\)|\*\*([A-Z])\*\*",
    re.IGNORECASE,
)
LISTED_LETTER = re.compile(r"^[ \t*_(\[]*([A-Z])[*_]*[).:][ \t*_]", re.MULTILINE)
LEADING_LETTER = re.compile(r"[\s*_$(\[{]*(?:\\(?:text|mathrm|mathbf|textbf)\{)?[\s(]*([A-Z])(?![a-zA-Z0-9'\u2019])(?!\s*=)")


def letter_at(index: str, letters: str) -> str | None:
    """The letter at a 0-based index in digits; None for what is no such index, however long."""
    return letters[int(index)] if index.isdecimal() and len(index) < 4 and int(index) < len(letters) else None


def final_answer(text: str, form: str, choices: Sequence[str] = ()) -> str | None:
    r"""The answer in `text`, which is what follows `</think>`; `None` where there is none.

    `form` is number, expression, choice or text. It decides what is looked for where there is no \boxed{}.
    """
    boxed = last_box(text)
    if boxed is not None:
        return boxed
    tail = text[-TAIL:]
    for match in reversed(list(STATED.finditer(tail))):
        stated = _stated_answer(match["rest"][:LONGEST_STATEMENT].strip(" \t*_"), form, choices)
        if stated:
            return stated
    if form == "number":
        return last_number(tail)
    return _lone_choice(tail, len(choices)) if form == "choice" else None


def last_box(text: str) -> str | None:
    r"""Content of the last \boxed{...}, \fbox{...} or `\boxed 3` that is not empty; `None` without one.

    A box that is never closed counts up to the end of its line.
    """
    end = len(text)
    for _ in range(MOST_BOXES):
        end = max(text.rfind(r"\boxed", 0, end), text.rfind(r"\fbox", 0, end))
        if end < 0:
            return None
        content = _box_content(text, end + len(r"\boxed" if text.startswith(r"\boxed", end) else r"\fbox"))
        if content:
            return content
    return None


def last_number(text: str) -> str | None:
    """The last number in `text`, fractions and thousands included, without a dollar sign."""
    numbers = [match[0] for match in NUMBER.finditer(text[-TAIL:])]
    return numbers[-1].replace("\\$", "").replace("$", "") if numbers else None


def _box_content(text: str, position: int) -> str:
    window = text[position : position + LONGEST_BOX].lstrip()
    if not window.startswith("{"):
        token = BARE_TOKEN.match(window)
        return token[0] if token else ""
    depth = 0
    for brace in BRACE.finditer(window):
        depth += (brace[0] == "{") - (brace[0] == "}")
        if depth == 0:
            return window[1 : brace.start()].strip()
    line = window[1:].split("\n", 1)[0].strip()
    for closing in ("$", r"\]", r"\)", "$", "."):
        line = line.removesuffix(closing).rstrip()
    return line if any(character.isalnum() for character in line) else ""


def _stated_answer(rest: str, form: str, choices: Sequence[str]) -> str | None:
    """The answer at the beginning of what follows "the answer is"."""
    maths = MATHS.search(rest)
    inside = next(group for group in maths.groups() if group).strip() if maths else None
    if form == "number":
        if inside and plain_number(inside) is not None:
            return inside
        clause = CLAUSE.split(rest, maxsplit=1)[0]
        found = (NUMBER.search(part) for part in (clause.rpartition("=")[2], clause, rest, in_digits(rest)))
        first = next(filter(None, found), None)
        return first[0].replace("\\$", "").replace("$", "") if first else None
    if form == "choice":
        letter = LEADING_LETTER.match(rest)
        if letter and letter[1] in LETTERS[: len(choices)]:
            return letter[1]
        named = _lone_choice(rest, len(choices))
        if named:
            return named
    if inside:
        return inside
    sentence = SENTENCE.match(rest)
    return sentence[0].strip(" *_") if sentence and len(sentence[0]) <= 80 else None


def _lone_choice(text: str, count: int) -> str | None:
    for pattern in (LONE_LETTER, NAMED_LETTER, LISTED_LETTER):
        letters = [group for match in pattern.finditer(text) for group in match.groups() if group]
        letters = [letter for letter in letters if letter in LETTERS[:count]]
        if letters:
            return letters[-1]
    return None
