r"""Bringing an answer into one way of writing, and reading plain numbers exactly.

    \dfrac12               \frac{1}{2}         1,\!200\text{ cm}^2    1200
    \left( 3, 4\right]     ( 3, 4]             \$18.50                18.50
    27^\circ               27                  19 \text{ and }43      19,43

Units, currency and percent signs go, as is the custom with MATH. The mathematics is left alone: whether $\frac{2}{4}$
and $\frac{1}{2}$ are equal is decided by `plain_number`, whether $\sqrt{8}$ and $2\sqrt{2}$ are, by math-verify.
"""

import re
from fractions import Fraction
from functools import lru_cache

# Characters that stand for something LaTeX spells out, and marks that nobody sees.
LOOKALIKES = str.maketrans(
    {
        "−": "-", "–": "-", "‐": "-", "‑": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "⁄": "/",
        "π": r"\pi ", "√": r"\sqrt ", "∞": r"\infty ", "°": r"^\circ ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ",
        "∪": r"\cup ", "∈": r"\in ", "±": r"\pm ", "²": "^2", "³": "^3", "½": r"\frac{1}{2}", "，": ",",
        "％": "%", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "’": "'", "“": '"', "”": '"',
    }
)  # fmt: skip


def _half_day(match: re.Match[str]) -> str:
    return (match[1] or match[2]).lower() + "m"


INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
NESTED = r"\{(?:[^{}]|\{[^{}]*\})*\}"
REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<![\d.])(\d{1,3}) (?=\d{3}(?![\d/]))", r"\1"),  # thousands, apart by a space
        (r"(\d)\s*(?:,\s*\\!\s*|\{,\}\s*|\\[!,]\s*)(?=\d{3}(?!\d))", r"\1"),  # and as LaTeX sets them
        (r"\\(?:text)?color\s*\{\w*\}|\\(?:bf|it|rm|large|Large|huge|Huge|boldsymbol|bm|underline)(?![a-zA-Z])", ""),
        (r"\\(?:left|right)\.", ""),
        (r"\\(?:(?:display|text)style|left|right|[bB]igg?[lr]?)(?![a-zA-Z])", ""),
        (r"\\\\\s*\[[^\[\]]*\]", r"\\\\ "),  # the row spacing of a matrix
        (r"(?<!\\)\\[()\[\]]|\\?\$|[€£¥]|\\(?:pounds|euro)(?![a-zA-Z])", ""),
        (r"(?<!\\)\\[ !,;:>]|~|\\q?quad(?![a-zA-Z])", " "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:mbox|text(?:rm|bf|it|normal|sf|tt)|math(?:rm|bf|it|sf)|operatorname)\s*(?=\{)", r"\\text"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"\\frac\s*(\\[a-zA-Z]+)\s*(\d)", r"\\frac{\1}{\2}"),
        (rf"\\frac\s*({NESTED})\s*(\d)", r"\\frac\1{\2}"),
        (r"\\sqrt\s*(\d|[a-zA-Z](?![a-zA-Z]))", r"\\sqrt{\1}"),
        (r"([_^])\s*\{\s*([\dA-Za-z])\s*\}", r"\1\2"),
        (r"\\?%", ""),
        (r"\\leq(?:slant)?(?![a-zA-Z])", r"\\le "),
        (r"\\geq(?:slant)?(?![a-zA-Z])", r"\\ge "),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
        (r"\\lbrace(?![a-zA-Z])", r"\\{"),
        (r"\\rbrace(?![a-zA-Z])", r"\\}"),
        (r"\\(begin|end)\{[bBv]?matrix\}", r"\\\1{pmatrix}"),
        (r"\+\s*(?=\\infty)", ""),
        (r",?\s*(?:\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)\s*", ","),
        (r"(?<=\d):00(?!\d)", ""),
        (r"(?<=\d)\s*\^\s*\{?\s*(?:\\text\s*\{\s*)?(?:st|nd|rd|th)\b\s*\}*", ""),  # the 4th
        (r"(?i)(?<=\d)\s*\\text\s*\{\s*([ap])\.?m\.?\s*\}|(?<=\d)\s*([ap])\.?m\b\.?", _half_day),
    )
]
DEGREES = re.compile(r"(?:\^\s*\{?\s*\\circ(?![a-zA-Z])\s*\}?|\\degrees?(?![a-zA-Z]))(?:\s*[CF]\s*$)?")
TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
GAP = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
CURRENCY = re.compile(r"^([-+]?)\s*(?:USD|US)\s*(?=[\d.-])")
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
UNITS = "mm|cm|km|m|in|ft|yd|mi|mg|g|kg|lb|oz|ml|mL|L|s|hr|h|kph|mph|ct"
NOT_UNITS = "|".join(
    [*SCALES, "half|halves|thirds?|squared|cubed|factorial|choose|mod|times|plus|minus|divided|over|to|base",
     "sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|alpha|beta|theta|phi|pi|inf"]
)  # fmt: skip
POWER = r"(?:\s*\^\s*\{?\s*\d\s*\}?)?\s*$"
UNIT = re.compile(
    rf"(?<=[\d)}}i])\s*/?\s*\\text\s*\{{(?!\s*(?:{NOT_UNITS})\b)[^{{}}]*\}}{POWER}"
    rf"|(?<=[\d}}])\s*\b(?!(?:{NOT_UNITS})\b)(?:[a-zA-Z]{{3,}}|{UNITS})\b(?:[\s-]+[a-zA-Z]+|\s*/\s*[a-zA-Z]+){{0,6}}{POWER}"
    rf"|(?<=\d)(?:{UNITS.replace('|m|', '|').replace('|g|', '|').replace('|s|', '|').replace('|h|', '|')}){POWER}"
    r"|(?<=[\d}])\s*\((?:\\text\s*\{[^{}]*\}|[a-zA-Z]{3}[a-zA-Z ]*)\)\s*$"
    r"|(?<=\d)\s*\\frac\s*\{\s*\\text\s*\{[^{}]*\}\s*\}\s*\{\s*\\text\s*\{[^{}]*\}\s*\}\s*$"
)
DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
DECIMAL = rf"(?:{DIGITS}(?:\.\d*)?|\.\d+)"
SIGN = r"(?P<sign>[-+]?)\s*"
NUMBERS = [
    re.compile(rf"{SIGN}(?P<number>{DECIMAL})"),
    re.compile(rf"{SIGN}(?P<number>\d+\.\d*)\\overline\s*\{{\s*(?P<period>\d+)\s*\}}"),
    re.compile(rf"{SIGN}\\frac\s*\{{\s*(?P<top>[-+]?\s*{DECIMAL})\s*\}}\s*\{{\s*(?P<bottom>[-+]?\s*{DECIMAL})\s*\}}"),
    re.compile(rf"{SIGN}\(?(?P<top>{DECIMAL})\s*/\s*(?P<bottom>{DECIMAL})\)?"),
    re.compile(rf"{SIGN}(?P<whole>\d+)\s*\\frac\s*\{{\s*(?P<top>\d+)\s*\}}\s*\{{\s*(?P<bottom>\d+)\s*\}}"),
    re.compile(rf"{SIGN}(?P<whole>\d+)\s+(?P<top>\d+)\s*/\s*(?P<bottom>\d+)"),
    re.compile(rf"{SIGN}(?P<number>{DECIMAL})\s*(?:(?:\\times|\\cdot)\s*10\^|[eE])\{{?\s*(?P<exponent>[-+]?\d{{1,3}})\s*\}}?"),
    re.compile(rf"{SIGN}(?P<number>{DECIMAL})\s*(?P<scale>{'|'.join(SCALES)})\b[a-zA-Z ]*"),
]


@lru_cache(maxsize=8192)
def normal(answer: str) -> str:
    r"""`answer` in one way of writing. Words in \text{} stay in it, other than units; `unwrapped` takes them out."""
    text = INVISIBLE.sub("", answer.translate(LOOKALIKES))
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text)
    if not TRIGONOMETRY.search(text):
        text = DEGREES.sub("", text)
    text = _tidy(CURRENCY.sub(r"\1", _tidy(text)))
    text = _tidy(UNIT.sub("", text))
    approximately = text.partition(r"\approx")
    return approximately[0].strip() or approximately[2].strip()


def _tidy(text: str) -> str:
    return " ".join(text.split()).rstrip(" .;:,\\").lstrip(" =:")


def unwrapped(text: str) -> str:
    r"""A normal form without its \text{} wrappers."""
    return _tidy(TEXT.sub(r"\1", text))


def squeezed(text: str) -> str:
    """Without white space, save between digits: `1 1/2` is not 11/2."""
    return GAP.sub("", text)


LONGEST_NUMBER = 4000  # characters; Python reads no integer of more than 4,300 digits


@lru_cache(maxsize=8192)
def plain_number(answer: str) -> Fraction | None:
    r"""The exact value of an integer, (repeating) decimal, fraction, mixed number or `a \times 10^n`; `None` for all else."""
    if len(answer) > LONGEST_NUMBER:
        return None
    text = unwrapped(normal(answer))
    if text.startswith("(") and text.endswith(")") and "," not in text:
        text = text[1:-1].strip()
    for pattern in NUMBERS:
        match = pattern.fullmatch(text)
        if match:
            return _value(match.groupdict())
    return None


def _value(parts: dict[str, str | None]) -> Fraction | None:
    def read(name: str, default: str) -> Fraction:
        return Fraction("".join((parts.get(name) or default).replace(",", "").split()).rstrip("."))

    bottom = read("bottom", "1")
    if bottom == 0:
        return None
    value = read("number", "0") + read("whole", "0") + read("top", "0") / bottom
    if period := parts.get("period"):
        decimals = len((parts["number"] or "").partition(".")[2])
        value += Fraction(int(period), 10**decimals * (10 ** len(period) - 1))
    value *= SCALES.get(parts.get("scale") or "", 1)
    value *= Fraction(10) ** int(parts.get("exponent") or 0)
    return -value if parts["sign"] == "-" else value
