"""Text of unknown origin (file names, questions, what models and libraries say) as it may be shown and kept."""

import os
import re

SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY")  # environment variables
HIDDEN = "***"
PATTERNS = (
    (re.compile(r"(\w://)[^/\s@'\"]+@"), rf"\1{HIDDEN}@"),  # the user and password of an address
    (re.compile(r"([?&](?:[a-z_-]*token|[a-z_-]*key|password)=)[^&\s'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(?:hf_|sk-)[A-Za-z0-9_-]{8,}"), HIDDEN),
)


def printable(text: str) -> str:
    """The text with what is no visible character written as an escape such as \\x1b; line breaks stay."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_text(text: str) -> bool:
    """Whether it is made of characters alone: half of a surrogate pair is none, and no tokenizer takes it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def redacted(text: str) -> str:
    """The text without passwords, tokens and keys: those of this process, and what looks like one."""
    for name in SECRETS:
        value = os.environ.get(name, "")
        if len(value) >= 4:
            text = text.replace(value, HIDDEN)
    for pattern, instead in PATTERNS:
        text = pattern.sub(instead, text)
    return text
