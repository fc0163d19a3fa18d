"""The rough value of closed expressions: right where it is one, none where it could be read in two ways."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkedit.grading.normal import normal
from thinkedit.grading.value import rough_value, tell_apart


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\frac{\sqrt{2} + \sqrt{6}}{4}", (math.sqrt(2) + math.sqrt(6)) / 4),
        (r"600\pi", 600 * math.pi),
        (r"-2 + 3\sqrt{5}", -2 + 3 * math.sqrt(5)),
        (r"\frac{7}{6}\pi - \frac{\sqrt{3}}{2}", 7 / 6 * math.pi - math.sqrt(3) / 2),
        (r"2^{10}", 1024),
        (r"3^2 \cdot 4", 36),
        (r"\sqrt[3]{27}", 3),
        (r"2(3+4)/7", 2),
        (r"-(1-\sqrt{4})", 1),
    ],
)
def test_closed_expressions_come_to_their_value(text, value):
    assert rough_value(normal(text)) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [r"2\frac{1}{2}", "2^10", "3 4", "1,250", "x", "2x", r"\frac{1}{0}", r"\sqrt{-1}", "(-8)^{0.5}", "9^{9^{9^9}}", "", "(",
     "5!", "{" * 100, r"\sin 2", "1 = 1", r"\frac12 3 4"],
)  # fmt: skip
def test_what_is_unclear_has_none(text):
    assert rough_value(text) is None


def test_only_clear_differences_tell_apart():
    assert tell_apart(r"\sqrt{74}", "208")
    assert not tell_apart(r"2\sqrt{2}", r"\sqrt{8}")
    assert not tell_apart("x", "3")


@given(st.text(alphabet=r"0123456789.+-*/^(){}[]\ frac sqrt pi", max_size=60))
def test_it_never_fails(text):
    rough_value(text)
