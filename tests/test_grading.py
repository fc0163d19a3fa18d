"""Grading: an answer is right exactly if it says what the gold one says, and no answer can harm another."""

import json
import random
import re
import resource
import signal
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkedit.errors import ThinkEditError
from thinkedit.grading import Grader, Item, Verdict, final_answer
from thinkedit.grading.answers import last_box
from thinkedit.grading.compare import compare, split_parts
from thinkedit.grading.normal import normal, plain_number
from thinkedit.tasks import load_questions
from thinkedit.tasks.base import form_of
from thinkedit.tasks.math import ALL

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the public evaluation sets are not here")


@pytest.fixture(scope="module")
def grader():
    with Grader(timeout=20.0) as one:
        yield one


def boxed(answer):
    return rf"Therefore the answer is $\boxed{{{answer}}}$."


# Finding the answer


@pytest.mark.parametrize(
    ("text", "form", "answer"),
    [
        (r"\boxed{5} and then \boxed{ 20 }", "number", "20"),
        (r"\boxed{\frac{1}{2}}", "expression", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", "expression", r"\{1,2\}"),
        (r"\boxed{\boxed{5}}", "number", "5"),
        (r"\boxed 3", "number", "3"),
        (r"\fbox{7}", "number", "7"),
        (r"\boxed{5} or rather \boxed{}", "number", "5"),
        ("so $\\boxed{42$\nand more", "number", "42"),
        (r"\boxed{\frac{1}{2}", "expression", r"\frac{1}{2}"),
        (r"\boxed{}", "number", None),
        ("The answer is $18 dollars.", "number", "18"),
        ("The answer is 3 + 4 = 7 apples, not 9", "number", "7"),
        (r"**Final Answer:** George needs **260 hours** of work.", "number", "260"),
        ("The answer is:\n\n\\[ x = 5 \\]", "expression", "x = 5"),
        (r"The answer is \(\frac{3}{4}\).", "number", r"\frac{3}{4}"),
        ("The answer is 5 million.", "number", "5 million"),
        ("#### 1,200", "number", "1,200"),
        ("She has 5, then 7.", "number", "7"),
        ("a loss of -$5", "number", "-5"),
        ("it costs 5-3 dollars", "number", "3"),
        ("eaten: 3/4", "number", "3/4"),
        ("She has 5.", "expression", None),
        ("", "number", None),
        ("Answer: C", "choice", "C"),
        ("The answer is (C).", "choice", "C"),
        ("The correct answer is option B.", "choice", "B"),
        ("**Answer:** B) 8 birds", "choice", "B"),
        ("I think\n\n**C**\n", "choice", "C"),
        ("A man walks his dog", "choice", None),
        ("C is correct", "choice", "C"),
        ("Correct option: C", "choice", "C"),
        ("Hence the correct letter is C.", "choice", "C"),
        ("The answer is 18, because x = 3 gives 6x.", "number", "18"),
        ("The answer is 18 (with y = 4).", "number", "18"),
        ("The answer is forty-two apples.", "number", "42"),
        ("The answer is one half.", "number", None),
        ("She has 5 books and reads until 6:30.", "number", "5"),
    ],
)
def test_the_final_answer_is_the_last_box_else_a_stated_one_else_the_last_number(text, form, answer):
    assert final_answer(text, form, ("p", "q", "r", "s")) == answer


@given(st.text(), st.sampled_from(["number", "expression", "choice", "text"]))
@settings(max_examples=150, deadline=None)
def test_looking_for_an_answer_never_fails(text, form):
    answer = final_answer(text, form, ("1", "2"))
    assert answer is None or answer


@given(st.text(alphabet="\\boxed{}f123$.\n answer:is#()*", max_size=200))
@settings(max_examples=200, deadline=None)
def test_grading_what_looks_like_an_answer_never_fails(text):
    for form, gold in (("number", "5"), ("expression", "(1,2)"), ("choice", "A")):
        answer = final_answer(text, form, ("1", "2"))
        if answer and form != "choice":
            compare(gold, answer)


# Equal and unequal


EQUAL = [
    (r"\frac{1}{2}", ["1/2", "0.5", ".5", r"\dfrac12", r"\tfrac{1}{2}", r"\frac{2}{4}", "½"]),
    (
        "18",
        ["18.00", r"\$18", "18 dollars", r"18 \text{ eggs per day}", "{18}", "x = 18", "Janet makes 18 dollars", "€18"],
    ),
    ("18", [r"\frac{36}{2}", r"3 \times 6", r"x=\frac{36}{2}=18", r"\frac{36}{2} = 18", r"18\,\text{kg}", "18%"]),
    ("1200", ["1,200", r"1{,}200", r"1,\!200", r"1\,200", r"1.2 \times 10^3", r"\$1,200.00"]),
    ("2000000", ["2 million", r"2\text{ million dollars}", "2,000,000"]),
    (r"5\%", ["5", r"5\%", "5 %", "0.05"]),
    (r"\text{even}", ["even", "Even", r"\mathrm{even}", r"\textbf{even}"]),
    (r"\text{Monday}", [r"\text{ Monday}", "monday."]),
    (r"\text{C,E}", ["C, E", r"\text{E and C}"]),
    (r"\text{(E)}", ["E", r"(\text{E})"]),
    (r"9\text{ a.m.}", ["9 AM", "9 a.m."]),
    ("(1,2)", [r"\left(1, 2\right)", r"(\frac{2}{2}, 2)", r"(1,\sqrt{4})"]),
    ("[-2,7]", [r"x \in [-2,7]", r"\left[ -2, 7 \right]"]),
    ("(3,4]", [r"3 < x \le 4"]),
    (r"(-\infty,0)\cup (0,\infty)", [r"(-\infty, 0) \cup (0, +\infty)"]),
    ("1,2", ["2, 1", r"\{1,2\}", "1 and 2", r"x=1 \text{ or } x=2"]),
    (r"1+\sqrt{19},1-\sqrt{19}", [r"1 \pm \sqrt{19}", r"1-\sqrt{19}, 1+\sqrt{19}"]),
    (r"\sqrt{8}", [r"2\sqrt{2}", r"2\sqrt2", r"\frac{4}{\sqrt{2}}"]),
    ("x^2+2x+1", ["(x+1)^2", "1+2x+x^2", "f(x) = (x+1)^2"]),
    ("x = 5", ["5", "x=5", r"x = \frac{10}{2}"]),
    (r"11 \frac{2}{3}", ["11 2/3", r"\frac{35}{3}", r"11\tfrac23"]),
    ("2516_8", ["2516", "2516_{8}"]),
    (r"27^\circ", ["27", r"27 \text{ degrees}", "27°"]),
    (r"15\mbox{ cm}^2", ["15", "15 cm^2", r"15 \text{ square cm}"]),
    (r"\begin{pmatrix} 1/2 \\ 7 \end{pmatrix}", [r"\begin{bmatrix} 0.5\\7\end{bmatrix}"]),
    ("-5", ["\u22125", "-5.0", r"\frac{-10}{2}"]),
    (
        "18",
        [r"18/\text{hour}", r"18\frac{\text{miles}}{\text{hour}}", r"18^\circ F", "18°C", r"18^{\text{th}}", "18 (dollars)"],
    ),
    ("18", [r"\underline{18}", r"\bf 18", r"\textcolor{red}{18}", r"\boldsymbol{18}", r"\pounds 18", "18€", "18\\ \\ "]),
    ("7", ["seven", r"\text{Seven apples}", "7 dozen", "7:00"]),
    ("84", ["7 dozen", "eighty-four", r"\text{eighty four coins}"]),
    ("9", [r"9\text{ a.m.}", r"9:00 \text{ AM}"]),
    ("120", ["one hundred twenty", "one hundred and twenty", "5!"]),
    ("1200", ["1 200", "one thousand two hundred"]),
    (r"\frac{1}{3}", [r"0.\overline{3}", r"0.\overline{33}", r"\frac{2}{6}"]),
    (r"2.1\overline{6}", [r"\frac{13}{6}", r"2\frac16"]),
    ("11/2", ["5 1/2", "5.5"]),
    (r"\emptyset", [r"\varnothing"]),
    (r"(-\infty,2)\cup(3,\infty)", [r"x<2 \text{ or } x>3", r"3 < x,\ x < 2", r"x \in (3,\infty) \cup (-\infty,2)"]),
    (r"(-\infty,3)\cup(3,\infty)", [r"x \ne 3", r"x<3 \text{ or } x>3"]),
    ("[3,4)", [r"3 \le x < 4", r"4 > x \geq 3", r"x \in [3,4)"]),
    (r"x \ge 3", [r"[3,\infty)", r"3 \le x"]),
]
UNEQUAL = [
    (r"\frac{1}{3}", ["0.333", "0.3333333333", "3"]),
    ("5", ["0.05", "500", "-5", "5 million", "negative 5", "", "?", r"\infty", r"\text{unknown}", "between 4 and 5"]),
    ("(1,2)", ["(2,1)", "[1,2]", "(1,2]", "(1,2,3)"]),
    ("(3,1)", ["(2,1)", r"(\sqrt{4},1)"]),
    ("1,2", ["1", "1,3", "1,2,3"]),
    (r"\text{even}", [r"\text{odd}", "odd", "2"]),
    (r"\text{C}", ["D", r"\text{D}"]),
    (r"9\text{ a.m.}", ["9 p.m."]),
    ("x=5", ["y=5", "x=6"]),
    ("2516_8", ["2516_7", "2517"]),
    ("2k+2", ["2n+2", "2k"]),
    ("12ab", ["12", "12a"]),
    (r"\frac{\sqrt2}{2}", ["0.71", r"\sqrt{2}"]),
    ("18", ["18 dollars and 5 cents", "18.5", "3!"]),
    (r"\begin{pmatrix} 1 \\ 7 \end{pmatrix}", [r"\begin{pmatrix} 7\\1\end{pmatrix}"]),
    ("y=2x", ["y=3x"]),
    ("11/2", ["1 1/2", r"1\frac12"]),
    ("5", ["5:30", "five hundred", "five or six", "no more than five hundred"]),
    ("(2,3)", [r"\{2,3\}"]),
    ("[3,4)", [r"3 < x < 4", r"3 \le x \le 4", r"x < 4"]),
    (r"(-\infty,2)\cup(3,\infty)", [r"x \le 2 \text{ or } x>3", r"2 < x < 3"]),
    ("7", ["eight", "84 dozen", "seventy"]),
]


@pytest.mark.parametrize(("table", "right"), [(EQUAL, True), (UNEQUAL, False)], ids=["equal", "unequal"])
def test_answers_count_for_what_they_mean(grader, table, right):
    pairs = [(gold, answer) for gold, answers in table for answer in answers]
    verdicts = grader.grade([(boxed(answer), gold, form_of(gold), ()) for gold, answer in pairs])
    assert [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.correct is not right] == []


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{C}", "C"),
        (r"\boxed{(C)}", "C"),
        (r"\boxed{\text{C}}", "C"),
        (r"\boxed{c}", "C"),
        (r"\boxed{C. 1,200}", "C"),
        (r"\boxed{\textbf{(B)}\ 8}", "B"),
        (r"\boxed{1200}", "C"),
        (r"\boxed{8}", "B"),
        (r"\boxed{8 birds}", "B"),
        (r"\boxed{4}", "A"),
        (r"\boxed{C = 8π}", "D"),
    ],
)
def test_a_choice_may_be_given_as_letter_or_as_its_text(grader, text, letter):
    choices = ("p = 4", "8 birds", "1,200", "C =8π")
    assert grader.grade([(text, letter, "choice", choices)]) == [Verdict(letter, True, "correct")]
    other = "A" if letter != "A" else "B"
    assert grader.grade([(text, other, "choice", choices)]) == [Verdict(letter, False, "wrong")]


def test_a_choice_may_be_an_index_where_an_index_is_the_gold_answer(grader):
    verdicts = grader.grade([(r"\boxed{2}", "2", "choice", ("9", "2", "7")), (r"\boxed{1}", "2", "choice", ("9", "2", "7"))])
    assert [verdict.correct for verdict in verdicts] == [True, False]


def test_the_reasons_are_told_apart(grader):
    items = [(boxed("5"), "5"), (boxed("6"), "5"), ("I do not know.", "5"), (boxed("1" * 2001), "5")]
    assert [verdict.reason for verdict in grader.grade([(*item, "number", ()) for item in items])] == [
        "correct", "wrong", "no answer", "unparsable",
    ]  # fmt: skip


def test_lenient_grading_restores_the_published_rules():
    items = [
        Item(boxed(r"\text{odd}"), r"\text{even}"),
        Item(boxed("500"), "5", "number"),
        Item(boxed("0.05"), "5", "number"),
        Item("It is 5 or so, says he", "5", "expression"),
        Item(boxed("6"), "5", "number"),
    ]
    with Grader(lenient=True) as lenient, Grader() as strict:
        assert [verdict.correct for verdict in lenient.grade(items)] == [True, True, True, True, False]
        assert not any(verdict.correct for verdict in strict.grade(items))


# Laws


@given(st.integers(-(10**12), 10**12))
@settings(deadline=None)
def test_thousands_separators_and_trailing_zeros_change_nothing(number):
    for written in (
        f"{number:,}",
        f"{number:,}".replace(",", "{,}"),
        f"{number}.00",
        f"{number:,}".replace(",", r",\!"),
    ):
        assert plain_number(written) == number
        assert compare(str(number), written) is True


@given(st.integers(-999, 999), st.integers(1, 999), st.integers(-999, 999), st.integers(1, 999))
@settings(deadline=None)
def test_fractions_are_compared_exactly(top, bottom, other_top, other_bottom):
    equal = top * other_bottom == other_top * bottom
    assert compare(rf"\frac{{{top}}}{{{bottom}}}", f"{other_top}/{other_bottom}") is equal


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_normal_form_is_its_own_equal(text):
    assert compare(text, text) is True or not normal(text).strip()
    split_parts(text)


# All gold answers


def rewritings(gold):
    """Ways of writing the same answer."""
    yield boxed(gold)
    yield rf"The answer is ${gold}$."
    yield boxed(gold.replace(r"\frac", r"\dfrac"))
    yield boxed(gold.replace(r"\frac", r"\tfrac"))
    yield boxed(f"${gold}$")
    yield boxed(f" {gold} ")
    if gold.count("(") == gold.count(")"):
        yield boxed(gold.replace("(", r"\left( ").replace(")", r"\right) "))
    if re.fullmatch(r"-?\d+", gold):
        number = int(gold)
        yield from (boxed(f"{number:,}"), boxed(f"{number:,}".replace(",", "{,}")), boxed(f"{number}.00"))
        yield from (boxed(rf"{gold}\text{{ units}}"), boxed(f"{gold} dollars"), boxed(rf"x = {gold}"))
        if number >= 0:
            yield boxed(rf"\${gold}")
    fraction = re.fullmatch(r"(-?)\\frac\{(\d+)\}\{(\d+)\}", gold)
    if fraction:
        yield boxed(f"{fraction[1]}{fraction[2]}/{fraction[3]}")


def math_golds():
    return [last_box(row["solution"]) for row in ALL.rows("test", DATA)]


@needs_data
@pytest.mark.parametrize("source", ["MATH", "MATH-500", "gsm8k train", "gsm8k test"])
def test_every_gold_answer_equals_itself_however_it_is_written(grader, source):
    name, _, split = source.partition(" ")
    golds = math_golds() if name == "MATH" else [question.gold for question in load_questions(name, split or None, DATA)]
    items = [(text, gold, form_of(gold), ()) for gold in golds for text in rewritings(gold)]
    wrong = [item for item, verdict in zip(items, grader.grade(items), strict=True) if not verdict.correct]
    assert len(wrong) <= 0.005 * len(items), wrong[:10]
    itself = grader.grade([(boxed(gold), gold, form_of(gold), ()) for gold in golds])
    assert all(verdict.correct for verdict in itself)


@needs_data
def test_every_mmlu_choice_is_recognised(grader):
    questions = load_questions("mmlu_elementary_math", data_dir=DATA)
    items, right = [], []
    for question in questions:
        for letter, choice in zip("ABCD", question.choices, strict=True):
            for text in (
                rf"\boxed{{{letter}}}",
                f"The answer is ({letter}).",
                rf"\boxed{{\text{{{letter}. {choice}}}}}",
            ):
                items.append((text, question.gold, "choice", question.choices))
                right.append(letter == question.gold)
    verdicts = grader.grade(items)
    assert [verdict.correct for verdict in verdicts] == right
    said = [rf"\boxed{{{question.choices['ABCD'.index(question.gold)]}}}" for question in questions]
    by_text = grader.grade([(text, q.gold, "choice", q.choices) for text, q in zip(said, questions, strict=True)])
    # One question offers the same text twice.
    assert sum(verdict.correct for verdict in by_text) >= len(questions) - 1


def compare_with_others(grader, count):
    """Random pairs of MATH golds: those graded right although they are written differently."""
    golds, draw = math_golds(), random.Random(0)
    pairs = [(draw.choice(golds), draw.choice(golds)) for _ in range(count)]
    verdicts = grader.grade([(boxed(answer), gold, form_of(gold), ()) for gold, answer in pairs])
    return {pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.correct and pair[0] != pair[1]}


# Golds of different problems that do mean the same.
SAME = {("6", "6^{\\circ}"), ("x = 4", "4")}


def processor_seconds():
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


@needs_data
def test_another_questions_gold_is_wrong(grader):
    assert compare_with_others(grader, 1000) <= SAME


@needs_data
@pytest.mark.slow
def test_ten_thousand_pairs_take_two_cores_less_than_a_minute():
    start = processor_seconds()
    with Grader(workers=2, timeout=20.0) as grader:
        assert compare_with_others(grader, 10_000) <= SAME
    assert (processor_seconds() - start) / 2 < 60


@needs_data
def test_real_responses_agree_with_math_verify(grader):
    """On the real outputs of a model math-verify alone is wrong twice: a bold **\\$2,640** and a `\\,` in thousands."""
    path = DATA / "deepseek_r1_qwen1.5b_gsm8k_responses.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    closed = [row for row in rows if "</think>" in row["response"]]
    items = [
        (row["response"].partition("</think>")[2], row["answer"].rpartition("#### ")[2].replace(",", ""), "number", ())
        for row in closed
    ]
    verdicts = grader.grade(items)
    assert sum(verdict.correct for verdict in verdicts) == 472
    assert len(verdicts) == 593
    assert all(verdict.answer is not None for verdict in verdicts)


# Hostile answers


HOSTILE = [
    r"9^{9^{9^9}}", "10^(10^9)", "999999999!", r"\cos(10^{10^{10}})", r"x^{x^{x^{x^x}}}" * 9,
    r"\binom{10^9}{5\cdot 10^8}", r"\sum_{k=1}^{10^9} \frac{1}{k^k}", r"\int e^{e^{e^x}}dx", r"(x+y+z)^{3000}",
    "{" * 10_000 + "}" * 10_000, "(" * 10_000, "[" * 500, r"\frac{" * 3000 + "1" + "}{2}" * 3000,
    r"\text{" * 500 + "a" + "}" * 500, r"\sqrt{" * 35 + "2" + "}" * 35, "\x00\x01\x02x", "\u202ex\u202c", "\u200f81",
    "\ufeffx", "\x1b[31mx\x1b[0m", "\ud800", "x\x85", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    "&lt;b&gt;", '__import__("os").system("exit 1")', "exit()", "lambda: 0", r"\input{/etc/passwd}",
    r"\def\a{\a\a}\a", r"\write18{ls}", "'; DROP TABLE answers; --", "%n%s%x", "NaN", "inf", r"\infty^{\infty}",
    "0^0", r"\frac{1}{0}", "1/0", r"\log(0)", "1e999999", "5" * 1999 + "x", "7" * 1999, "\\" * 1999, "$" * 1999,
    "_" * 500, "^" * 500, "%" * 1999, "," * 1999, "1," * 999, "(1," * 600, "a=" * 900, "+-" * 900 + "7",
    "-" * 199 + "7", r"\pm" * 500 + "1", "|" * 900, "}{" * 900, "x_{" * 300, r"\left(" * 200,
    r"\begin{pmatrix}" * 100, r"\cup" * 400, r"\{" * 900, r"\}" * 900, "{,}" * 600, r"1,\!" * 400, "²" * 500,
    "π" * 500, "√" * 500 + "2", "½" * 300, "or " * 600, "ab" * 900, "1 " * 900, "1/" * 900 + "1", " " * 1999 + "x",
    r"\text{and}" * 200, r"1\text{ and }" * 150, "6 million " * 15, "6 am " * 400, "a.m." * 400, r"\frac{}{}",
    r"\frac", r"\sqrt", "..7", ".7.7.7", "٤٢", "\U0001d7dc\U0001d7da", "x\n" * 900, "\r\nx\r\n", "C:\\Windows",
    r"\boxed{7", r"\boxed{" * 20 + "7", r"\boxed" * 200, r"\sin^{9999}(x)", r"10^{400}\times 10^{400}",
    r"1 \times 10^{999}", r"\lim_{x\to 0}\frac{\sin x}{x}", "x^{100000}+y^{100000}", r"\sqrt[10^9]{2}",
    r"\overline{\overline{x}}", "x" * 1_000_000, "x," * 1000,
]  # fmt: skip


@pytest.mark.parametrize("gold", ["9" * 5000, "0." + "3" * 5000, "1/" + "7" * 5000, "-" + "9" * 4298 + "/2"])
def test_golds_of_more_digits_than_python_reads_are_graded(grader, gold):
    """They come from data; an answer as long is refused before it is looked at."""
    items = [(boxed("3"), gold, form, ()) for form in ("number", "expression")]
    items += [(boxed(answer), gold, "choice", ("a", "b")) for answer in ("A", "9" * 1999)]
    assert not any(verdict.correct for verdict in grader.grade(items))
    assert plain_number(gold) is None


def test_hostile_answers_are_graded_in_time_and_leave_their_neighbours_alone():
    items = []
    start = processor_seconds()
    for n, answer in enumerate(HOSTILE, start=2):
        items += [(boxed(answer), "5", "number", ()), (boxed(rf"\sqrt{{{2 * n * n}}}"), rf"{n}\sqrt{{2}}")]
        items += [(boxed(rf"\sqrt{{{2 * n * n}}}"), rf"{n + 1}\sqrt{{2}}")]
    with Grader(timeout=1.5) as grader:
        verdicts = grader.grade(items)
    assert not any(verdict.correct for verdict in verdicts[0::3])
    assert all(verdict.correct for verdict in verdicts[1::3])
    assert all(verdict.reason == "wrong" for verdict in verdicts[2::3])
    assert verdicts[0].reason == "timed out"
    assert len(HOSTILE) >= 100
    assert processor_seconds() - start < 120


@pytest.mark.parametrize(
    "text",
    [
        "x" * 5_000_000, "{" * 5_000_000, r"\boxed{" + "{" * 5_000_000, r"\boxed{" * 700_000, r"\boxed{}" * 600_000,
        "answer is " * 500_000, "answer: " + "*" * 5_000_000, "9" * 5_000_000, "$" * 5_000_000, "(A" * 2_500_000,
        "\\(" * 2_500_000, "\n" * 5_000_000, "1," * 2_500_000, "#### " * 1_000_000, r"\fbox" * 1_000_000,
    ],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_five_megabytes_are_read_in_no_time(grader, text):
    start = time.perf_counter()
    verdicts = grader.grade([(text, "5", form, ("1", "2")) for form in ("number", "expression", "choice", "text")])
    assert time.perf_counter() - start < 8
    assert not any(verdict.correct for verdict in verdicts)


def test_a_worker_that_dies_takes_no_other_answer_with_it():
    with Grader(workers=1) as grader:
        hard = [(boxed(rf"\sqrt{{{n * n * 2}}}"), rf"{n}\sqrt{{2}}") for n in range(2, 8)]
        assert all(verdict.correct for verdict in grader.grade(hard))
        grader.processes.workers[0].process.kill()
        assert all(verdict.correct for verdict in grader.grade(hard))
        worker = grader.processes.workers[0].process
    assert worker.poll() is not None


def test_a_busy_machine_turns_no_verdict():
    with Grader(workers=1, timeout=2.0) as grader:
        grader.grade([(boxed(r"\sqrt{8}"), r"2\sqrt{2}")])
        process = grader.processes.workers[0].process
        process.send_signal(signal.SIGSTOP)
        threading.Timer(3.0, process.send_signal, [signal.SIGCONT]).start()
        assert grader.grade([(boxed(r"\sqrt{18}"), r"3\sqrt{2}")])[0].correct
        assert grader.processes.workers[0].process is process


def test_nothing_is_started_until_it_is_needed():
    with Grader() as grader:
        grader.grade([(boxed("5"), "5"), (boxed(r"\frac12"), "0.5"), (boxed("6"), "5")])
        assert grader.processes.workers == []


def test_a_process_that_cannot_start_is_a_clear_error(monkeypatch):
    monkeypatch.setattr("thinkedit.grading.processes.MEMORY", "no number")
    with Grader() as grader, pytest.raises(ThinkEditError, match="math-verify"):
        grader.grade([(boxed(r"\sqrt{8}"), r"2\sqrt2")])
