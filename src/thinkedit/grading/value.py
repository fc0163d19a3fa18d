r"""What a closed expression without letters comes to, roughly: enough to tell two answers apart without computer algebra.

    \frac{\sqrt{2} + \sqrt{6}}{4}   0.966        600\pi   1885.0        2^{10}   1024.0

Only differences are decided on it: what comes to nearly the same is left to exact comparison.
"""

import math
import re

TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|(\\[a-zA-Z]+|[-+*/^(){}\[\]]))")
TIMES = {"*", r"\cdot", r"\times"}
OPENING = {"(", "{", r"\frac", r"\sqrt", r"\pi"}
LONGEST = 200
DEEPEST = 30
TOLERANCE = 1e-6


def tell_apart(first: str, second: str) -> bool:
    """True where both are closed expressions of clearly different value; False where they are equal or it is not known."""
    a, b = rough_value(first), rough_value(second)
    return a is not None and b is not None and abs(a - b) > TOLERANCE * max(1.0, abs(a), abs(b))


def rough_value(text: str) -> float | None:
    """The value of a normal form; `None` for whatever could be read in two ways, is not closed or is too large."""
    if len(text) > LONGEST:
        return None
    tokens: list[str] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            return None
        tokens.append(match[1] or match[2])
        position = match.end()
    try:
        value, rest = _sum(tokens, 0, 0)
    except (_Unclear, OverflowError, ZeroDivisionError, ValueError, IndexError):
        return None
    return value if rest == len(tokens) and math.isfinite(value) and abs(value) < 1e15 else None


class _Unclear(Exception):
    pass


def _sum(tokens: list[str], place: int, depth: int) -> tuple[float, int]:
    if depth > DEEPEST:
        raise _Unclear
    sign = -1.0 if tokens[place] == "-" else 1.0
    value, place = _product(tokens, place + (tokens[place] in "+-"), depth)
    value *= sign
    while place < len(tokens) and tokens[place] in ("+", "-"):
        sign = -1.0 if tokens[place] == "-" else 1.0
        term, place = _product(tokens, place + 1, depth)
        value += sign * term
    return value, place


def _product(tokens: list[str], place: int, depth: int) -> tuple[float, int]:
    start = place
    value, place = _power(tokens, place, depth)
    while place < len(tokens):
        token = tokens[place]
        if token in TIMES or token == "/":
            factor, place = _power(tokens, place + 1, depth)
            value = value / factor if token == "/" else value * factor
        elif token in OPENING:
            if token == r"\frac" and place == start + 1:
                raise _Unclear  # 2\frac{1}{2} is a mixed number to some and a product to others
            factor, place = _power(tokens, place, depth)
            value *= factor
        else:
            break
    return value, place


def _power(tokens: list[str], place: int, depth: int) -> tuple[float, int]:
    value, place = _atom(tokens, place, depth)
    if place < len(tokens) and tokens[place] == "^":
        if tokens[place + 1] != "{" and len(tokens[place + 1]) > 1:
            raise _Unclear  # TeX reads 2^10 as 2^1 0
        exponent, place = _atom(tokens, place + 1, depth)
        raised = value**exponent
        if isinstance(raised, complex):
            raise _Unclear
        value = raised
    return value, place


def _atom(tokens: list[str], place: int, depth: int) -> tuple[float, int]:
    token = tokens[place]
    if token[0].isdigit() or token[0] == ".":
        return float(token), place + 1
    if token == r"\pi":
        return math.pi, place + 1
    if token in ("(", "{"):
        value, place = _sum(tokens, place + 1, depth + 1)
        if tokens[place] != {"(": ")", "{": "}"}[token]:
            raise _Unclear
        return value, place + 1
    if token == r"\frac":
        top, place = _group(tokens, place + 1, depth)
        bottom, place = _group(tokens, place, depth)
        return top / bottom, place
    if token == r"\sqrt":
        root = 2.0
        if tokens[place + 1] == "[":
            root, place = float(tokens[place + 2]), place + 3
            if tokens[place] != "]":
                raise _Unclear
        inside, place = _group(tokens, place + 1, depth)
        if inside < 0 or root < 1:
            raise _Unclear
        return inside ** (1 / root), place
    raise _Unclear


def _group(tokens: list[str], place: int, depth: int) -> tuple[float, int]:
    if tokens[place] != "{":
        raise _Unclear
    return _atom(tokens, place, depth)
