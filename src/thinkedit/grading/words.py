"""Whole numbers in words: `forty-two apples` is `42 apples`."""

import re

ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
THOUSANDS = {"thousand": 1000, "million": 10**6}
VALUES = {word: value for value, word in enumerate(["zero", *ONES, *TEENS])} | {word: 10 * n for n, word in enumerate(TENS, 2)}
ONE = f"(?:{'|'.join(ONES)})"
GAP = r"(?:\s*-\s*|\s+)"
THEN = r"(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s+)"
BELOW_100 = f"(?:(?:{'|'.join(TENS)})(?:{GAP}{ONE})?|{'|'.join(TEENS)}|{ONE})"
BELOW_1000 = f"(?:{ONE}{GAP}hundred(?:{THEN}{BELOW_100})?|{BELOW_100})"
NUMBER = re.compile(
    rf"\b(?:zero|{BELOW_1000}(?:{GAP}million(?:{THEN}{BELOW_1000}{GAP}thousand)?(?:{THEN}{BELOW_1000})?"
    rf"|{GAP}thousand(?:{THEN}{BELOW_1000})?)?)\b(?![\s-]+(?:hal(?:f|ves)|thirds?|quarters?|fourths?|fifths?|sixths?|eighths?|tenths?)\b)",
    re.IGNORECASE,
)
WORD = re.compile(r"[a-z]+")


def in_digits(text: str) -> str:
    """`text` with every whole number below a thousand million that is spelled out in digits."""
    return NUMBER.sub(lambda match: str(_value(match[0])), text)


def _value(words: str) -> int:
    total = part = 0
    for word in WORD.findall(words.lower()):
        if word in THOUSANDS:
            total, part = total + part * THOUSANDS[word], 0
        elif word == "hundred":
            part *= 100
        else:
            part += VALUES.get(word, 0)
    return total + part
