"""The law that every reader obeys, and ways to break what it reads."""

import json
import signal
from collections import Counter
from contextlib import contextmanager

from hypothesis import strategies as st

from thinkedit.errors import ThinkEditError

SECONDS = 60  # far above what any input may take: what gets here has run away
tally = Counter()


@contextmanager
def law():
    """What happens inside works, or is refused with one message of ours, before long."""

    def too_long(*_):
        raise AssertionError(f"still at work after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        yield
        tally["read"] += 1
    except ThinkEditError as error:
        said = str(error).strip()
        tally["refused"] += 1
    else:
        said = "worked"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert said, "an error without a message"


TEXTS = st.text(st.characters(), max_size=30) | st.sampled_from(
    [
        "\x1b[31mred",
        "\u202eright to left",
        "nul\0byte",
        "e\u0301\u0302\u0303",
        "\ud800",
        "[bold]x[/]",
        "../../x",
        "\U0001f468\u200d\U0001f469",
        "9" * 5000,  # more digits than Python reads as a number
        "",
    ]
)
NUMBERS = (
    st.integers()
    | st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30, -(10**30)])
    | st.floats()
    | st.sampled_from([float("nan"), float("inf"), 1e308])
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


STRANGE = [b"[" * 100_000, b'"' + b"9" * 10_000, b"\0", b"\xff\xfe"]


@st.composite
def broken_bytes(draw, whole):
    """Bytes cut, flipped, doubled, and with others put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        end = min(len(data), place + draw(st.integers(0, 40)))
        how = draw(st.sampled_from(["cut", "replace", "double", "insert", "truncate"]))
        if how == "cut":
            del data[place:end]
        elif how == "replace":
            data[place:end] = draw(st.binary(max_size=40))
        elif how == "double":
            data[place:place] = data[place:end]
        elif how == "insert":
            data[place:place] = draw(st.binary(max_size=40) | st.sampled_from(STRANGE))
        else:
            del data[place:]
    return bytes(data)


@st.composite
def broken_value(draw, whole):
    """A JSON value some of whose parts are gone, exchanged, or new."""
    value = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        value = _broken(draw, value)
    return value


def _broken(draw, value):
    if isinstance(value, dict | list) and value and draw(st.integers(0, 5)):
        keys = sorted(value) if isinstance(value, dict) else range(len(value))
        key = draw(st.sampled_from(list(keys)))
        if draw(st.integers(0, 3)) == 0:
            del value[key]
        else:
            value[key] = _broken(draw, value[key])
        return value
    if isinstance(value, dict) and draw(st.booleans()):
        return value | {draw(TEXTS): draw(JSON)}
    return draw(JSON)


def write_json(path, value):
    """As strange as it comes: with NaN, infinities and lone surrogates."""
    path.write_bytes(json.dumps(value, ensure_ascii=True).encode())
    return path


def write_lines(path, values):
    path.write_bytes(b"".join(json.dumps(value).encode() + b"\n" for value in values))
    return path
