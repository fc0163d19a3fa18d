r"""Whether an answer equals the gold one, as far as that can be told without computer algebra.

`compare` gives True or False where strings, exact numbers and the structure of tuples, intervals and lists decide, and
else the pairs of expressions that must all be equal for the answer to be right: those go to math-verify.
"""

import re
from itertools import pairwise

from thinkedit.grading.answers import NUMBER
from thinkedit.grading.intervals import RELATION as INEQUALITY
from thinkedit.grading.intervals import as_intervals
from thinkedit.grading.normal import normal, plain_number, squeezed, unwrapped
from thinkedit.grading.value import rough_value, tell_apart
from thinkedit.grading.words import in_digits

Pairs = list[tuple[str, str]]
Decision = bool | Pairs

WORDS = re.compile(r"[(\[]?\s*\\text\s*\{[^{}]*[a-zA-Z][^{}]*\}\s*[)\]]?|[(\[]?[A-Z](?:,? ?[A-Z])*[)\]]?")
BARE_WORDS = re.compile(r"(?=.*[a-zA-Z]{4})[a-zA-Z][a-zA-Z ,.'\"!-]*")
BASED = re.compile(r"(-?[\dA-Z.]+)(?:_\s*\{?\s*\(?(\d+)\)?\s*\}?)?")
NAMED = re.compile(
    r"((?:\\?[a-zA-Z]+|\\text\s*\{[^{}]*\})(?:_\{?\w+\}?)?(?:\([a-z](?:,\s*[a-z])*\))?)\s*(?:=|\\in(?![a-z]))\s*"
)
DIGITS_ONLY = re.compile(r"[\d,.\s]*")
SENTENCE = re.compile(r"[a-zA-Z ,.:'-]*")
MEANINGFUL = re.compile(r"\b(?:minus|negative|half|squared|factorial|hundred|thousand|million|billion|dozen|percent)\b")
RELATION = re.compile(r"[<>=|:;]|\\(?:[lg]en?|in|ne|mid|to|begin|sum|int|lim|text|cup|cap|binom)(?![a-z])|\\[{}]")
COMMAND = re.compile(r"\\[a-zA-Z]+|_\s*\{[^{}]*\}")
WORD = re.compile(r"[a-zA-Z]{3,}|pi|ln")
LETTER = re.compile(r"[a-df-hj-zA-Z]")  # e and i are numbers
CLOSING = {"(": ")", "[": "]", "{": "}", r"\{": r"\}"}
BRACKET = re.compile(r"\\[{}]|[()\[\]{}]|,")


def compare(gold: str, answer: str, lenient: bool = False) -> Decision:
    """Both as they were written. `lenient` restores the rules of the published evaluation."""
    if lenient and _published_rules(gold, answer):
        return True
    if "%" in gold or "%" in answer:
        values = plain_number(gold), plain_number(answer)
        if None not in values:
            return _percentages_agree(gold, answer)
    return _compare(normal(gold), normal(answer))


def _compare(gold: str, answer: str) -> Decision:
    if squeezed(gold) == squeezed(answer):
        return bool(squeezed(gold))
    gold_value, value = plain_number(gold), plain_number(answer)
    if gold_value is not None and value is not None:
        # A dozen is a number, and a unit where dozens were asked for.
        return gold_value == value or ("dozen" in answer and gold_value * 12 == value)
    if _is_text(gold):
        return text_key(gold) == text_key(answer)
    if gold_value is not None:
        numbers = _numbers_of_sentence(answer)
        if len(numbers) == 1:
            return plain_number(numbers[0]) == gold_value
    if _is_text(answer):
        return False
    if "_" in gold or "_" in answer:
        bases = BASED.fullmatch(unwrapped(gold)), BASED.fullmatch(unwrapped(answer))
        if bases[0] and bases[1]:
            # A base that the question fixed may be left out of the answer.
            return bases[0][1] == bases[1][1] and bases[0][2] is not None and bases[1][2] in (None, bases[0][2])
    if bool(INEQUALITY.search(gold)) is not bool(INEQUALITY.search(answer)):
        gold, answer = (as_intervals(text) or text for text in (gold, answer))
    named = _compare_named(gold, answer)
    return named if named is not None else _compare_structure(gold, answer)


def _compare_named(gold: str, answer: str) -> Decision | None:
    """`x = 5` against `5` or `x = 5`: by what is on the right, unless both name different things."""
    gold_name, name = NAMED.match(gold), NAMED.match(answer)
    if gold_name and name:
        if squeezed(gold_name[1]) != squeezed(name[1]):
            return False if "=" not in gold[gold_name.end() :] + answer[name.end() :] else None
        return _compare(gold[gold_name.end() :], answer[name.end() :]) if not _is_list(gold) else None
    if gold_name and "=" not in answer:
        return _compare(gold[gold_name.end() :], answer)
    if "=" not in gold and not _is_list(answer):
        if name and "=" not in answer[name.end() :]:
            return _compare(gold, answer[name.end() :])
        last = answer.rpartition("=")
        if last[1] and last[0][-1:] not in "<>!\\":
            return _compare(gold, last[2].strip())
    return None


def _compare_structure(gold: str, answer: str) -> Decision:
    """Tuples and intervals part by part in order, sets and lists in any order."""
    if tell_apart(gold, answer):
        return False
    gold_open, gold_parts = split_parts(gold)
    opened, parts = split_parts(answer)
    if _number_against_many(gold, answer, parts) or _number_against_many(answer, gold, gold_parts):
        return False
    ordered, order = gold_open[:1] in ("(", "["), opened[:1] in ("(", "[")
    if ordered and order:
        if gold_open != opened or len(gold_parts) != len(parts):
            return False
        return _all([_compare(*pair) for pair in zip(gold_parts, parts, strict=True)])
    if (ordered and opened) or (order and gold_open):
        return False  # a tuple or an interval against a set in braces
    if ordered or order or (max(len(gold_parts), len(parts)) == 1 and not gold_open and not opened):
        return [(gold, answer)] if _same_variables(gold, answer) else False
    gold_parts, parts = (_without_names(items) for items in (gold_parts, parts))
    if len(gold_parts) != len(parts):
        return [(gold, answer)] if r"\pm" in gold + answer or not (len(gold_parts) > 1 < len(parts)) else False
    left: list[str] = []
    remaining = list(parts)
    for part in gold_parts:
        match = next((other for other in remaining if _compare(part, other) is True), None)
        if match is None:
            left.append(part)
        else:
            remaining.remove(match)
    if len(left) <= 1:
        return _compare(left[0], remaining[0]) if left else True
    if all(plain_number(item) is not None for item in left + remaining):
        return False
    return [(r"\{" + ",".join(left) + r"\}", r"\{" + ",".join(remaining) + r"\}")]


def _number_against_many(one: str, other: str, parts: list[str]) -> bool:
    """Whether `one` is a single number and `other`, which has `parts`, is several, a matrix or a union of intervals."""
    many = len(parts) > 1 and not DIGITS_ONLY.fullmatch(other)  # `1, 000` may be one number after all
    return (many or r"\cup" in other or "matrix" in other) and rough_value(one) is not None


def _same_variables(gold: str, answer: str) -> bool:
    """False where the letters differ, as in `2k+2` and `2n+2`. Relations and words are not judged."""
    if RELATION.search(gold + answer):
        return True
    letters = [COMMAND.sub(" ", text) for text in (gold, answer)]
    return bool(WORD.search(letters[0] + " " + letters[1])) or set(LETTER.findall(letters[0])) == set(
        LETTER.findall(letters[1])
    )


def split_parts(text: str) -> tuple[str, list[str]]:
    r"""The brackets around the whole, such as `(]` or `\{\}`, or none, and the parts between its outermost commas."""
    stack: list[str] = []
    cuts: dict[int, list[int]] = {0: [], 1: []}
    first_closed = -1
    first = BRACKET.match(text)
    for match in BRACKET.finditer(text):
        token = match[0]
        if token == ",":
            if len(stack) < 2:
                cuts[len(stack)].append(match.start())
        elif token in CLOSING:
            stack.append(token)
        elif stack:
            opener = stack.pop()
            if not stack and first_closed < 0:
                first_closed, closer = match.end(), token
                outer = opener
    whole = first is not None and first[0] != "," and first[0] != "{" and first_closed == len(text)
    if whole and (cuts[1] or outer == r"\{"):
        return outer + closer, _cut(text, len(outer), len(text) - len(closer), cuts[1])
    return "", _cut(text, 0, len(text), [] if plain_number(text) is not None else cuts[0])


def _cut(text: str, start: int, end: int, commas: list[int]) -> list[str]:
    edges = [start - 1, *commas, end]
    return [text[left + 1 : right].strip() for left, right in pairwise(edges)]


def _is_list(text: str) -> bool:
    return len(split_parts(text)[1]) > 1


def _without_names(parts: list[str]) -> list[str]:
    return [part[match.end() :] if (match := NAMED.match(part)) else part for part in parts]


def _all(decisions: list[Decision]) -> Decision:
    if any(decision is False for decision in decisions):
        return False
    return [pair for decision in decisions if not isinstance(decision, bool) for pair in decision] or True


def _is_text(text: str) -> bool:
    return bool(WORDS.fullmatch(text) or BARE_WORDS.fullmatch(text))


def text_key(text: str) -> str:
    """Equal for two texts in words that say the same: case, articles, punctuation and the order of letters do not count."""
    words = " ".join(unwrapped(normal(text)).casefold().split()).strip(" .,;:!?()[]\"'")
    words = re.sub(r"^(?:an?|the) (?=\w{2})", "", words).replace("- ", "-").replace(" -", "-")
    letters = re.split(r"[,\s]+", words)
    return "".join(sorted(letters)) if all(len(letter) == 1 and letter.isalpha() for letter in letters) else words


def _numbers_of_sentence(answer: str) -> list[str]:
    """The numbers of an answer in words ("Janet makes 18 dollars"); none if it is no such thing."""
    words = unwrapped(answer)
    text = words if NUMBER.search(words) else in_digits(words)
    rest = NUMBER.sub("", text)
    worded = SENTENCE.fullmatch(rest) and re.search(r"[a-zA-Z]{2}", words) and not MEANINGFUL.search(rest.lower())
    return [match[0] for match in NUMBER.finditer(text)] if worded else []


def _percentages_agree(gold: str, answer: str) -> bool:
    """`5\\%` is 5, as is the custom, and 0.05, as it is defined."""
    value, given = plain_number(gold), plain_number(answer)
    assert value is not None
    assert given is not None
    if "%" in gold and "%" in answer:
        return value == given
    return value == given or (value / 100 == given if "%" in gold else value == given / 100)


def _published_rules(gold: str, answer: str) -> bool:
    if r"\text" in gold and r"\text" in answer:
        return True
    value, given = (plain_number(normal(item).replace(",", "")) for item in (gold, answer))
    return value is not None and given is not None and given in (value, value * 100, value / 100)
