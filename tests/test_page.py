"""The page in headless Chromium: nothing of a model's text runs, every plot is drawn, search and filters work.

Needs `pip install playwright` and a Chromium: Debian's `apt-get install chromium`, or `playwright install chromium`.
Set THINKEDIT_PAGE_PICTURES to a directory to keep photographs of both colour schemes.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import evidence

from thinkedit.report import Evidence
from thinkedit.report.browser import browser_rows
from thinkedit.report.page import embedded, visible, write_page
from thinkedit.report.summary import summarise
from thinkedit.report.write import write_joint_report

HOSTILE = [
    "<script>window.hacked = 1; alert(1)</script>",
    "</script><script>window.hacked = 2</script>",
    "<img src=x onerror='window.hacked=3'>",
    "<!--<script>",
    "]]></style><svg onload=window.hacked=4>",
    "javascript:alert(1)",
    "\u202eright to left\u202c and \u200f marks",
    "null\x00 bell\x07 escape\x1b[31m del\x7f",
    "line\u2028separator\u2029paragraph",
    "{{ data }} {{ script }} ${window.hacked=5}",
    "lone surrogate \ud800 end",
    "\\boxed{" * 500,
]


def hostile_evidence() -> Evidence:
    """Hostile text wherever a model, a data set or a user can put some."""
    plain = evidence(30)
    arms = {}
    for name, records in plain.evaluation["tiny"].items():
        arms[name] = [
            replace(
                record,
                question=f"{HOSTILE[k % len(HOSTILE)]} {record.question}",
                text=f"<think>{HOSTILE[(k + 1) % len(HOSTILE)]} then {record.text}",
                answer=HOSTILE[(k + 2) % len(HOSTILE)],
                gold=HOSTILE[(k + 3) % len(HOSTILE)],
                verdict=HOSTILE[0],
                group=HOSTILE[1] if record.group == "rushed topics" else record.group,
            )
            for k, record in enumerate(records)
        ]
    settings = plain.settings | {HOSTILE[0]: HOSTILE[1]}
    evaluation = {HOSTILE[2]: arms, "second task": {"base": arms["base"], "edited": arms["edited"]}}
    return replace(plain, model=HOSTILE[1], settings=settings, evaluation=evaluation, commands=HOSTILE[:3])


def test_embedded_data_holds_nothing_that_html_knows() -> None:
    text = embedded({"text": HOSTILE})
    assert text.isascii()
    assert not re.search("[<>&\x00-\x1f]", text)
    assert json.loads(text)["text"][0] == HOSTILE[0]


def test_controls_and_direction_marks_are_shown_by_name() -> None:
    assert visible("a\u202eb\x00c\n\td") == "a[U+202E]b[U+0000]c\n\td"


def test_the_page_asks_for_nothing_and_allows_only_itself(reports: dict[str, Path]) -> None:
    html = reports["plain"].read_text()
    assert len(html) < 1_000_000
    assert "default-src 'none'" in html
    assert "unsafe" not in html
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", html)
    assert len(re.findall(r"<script", html)) == 2


def find_chromium() -> str | None:
    return os.environ.get("CHROMIUM") or next((p for n in ("chromium", "google-chrome") if (p := shutil.which(n))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium: apt-get install chromium, or playwright install chromium ({str(error)[:80]})")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    for name, parts in (("plain", evidence(120)), ("hostile", hostile_evidence())):
        rows = browser_rows(parts.evaluation, "edited")
        write_page(summarise(parts), rows, folder / f"{name}.html")
    several = {"one": evidence(60), HOSTILE[2]: evidence(40)}
    write_joint_report(several, folder / "joint", published=True, commands=["thinkedit analyze a b"])
    return {name: folder / f"{name}.html" for name in ("plain", "hostile")} | {"joint": folder / "joint/report/index.html"}


def opened(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str]]:
    """The page, and a list that collects every error, dialog and request of it."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.startswith("file:") else problems.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("#footer p")
    return page, problems


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_plot_is_drawn_without_an_error(browser: Any, reports: dict[str, Path], scheme: str) -> None:
    page, problems = opened(browser, reports["plain"], color_scheme=scheme)
    charts = page.locator("figure .canvas")
    assert charts.count() == 8
    for place in range(charts.count()):
        chart = charts.nth(place)
        assert chart.locator(".line, .whisker, .cell").count() > 0
        box = chart.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 100
        assert not re.search("NaN|undefined|Infinity", chart.evaluate("node => node.innerHTML"))
    assert page.locator("#heads .cell").count() == 32
    assert page.locator("#heads .edited").count() == 3
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", dark)[0]) < 60) is (scheme == "dark")
    if folder := os.environ.get("THINKEDIT_PAGE_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/report-{scheme}.png", full_page=True)
    assert problems == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_several_models_judges_each_by_itself(browser: Any, reports: dict[str, Path], scheme: str) -> None:
    page, problems = opened(browser, reports["joint"], color_scheme=scheme)
    assert page.locator("h1").inner_text() == "The edits raised accuracy in 2 of 2 models"
    assert page.locator("#result .beside > li").count() == 2
    charts = page.locator("figure .canvas")
    assert charts.count() == 7
    for place in range(charts.count()):
        assert charts.nth(place).locator(".line, .whisker, .cell").count() > 0
        assert not re.search("NaN|undefined|Infinity", charts.nth(place).evaluate("node => node.innerHTML"))
    picker = page.locator("#lengths select")
    assert picker.locator("option").count() == 2
    picker.select_option(index=1)
    page.select_option("#task", "one: tiny")
    assert page.locator("#answers [role=status]").inner_text() == "60 of 100 questions"
    assert page.evaluate("window.hacked") is None
    if folder := os.environ.get("THINKEDIT_PAGE_PICTURES"):
        page.screenshot(path=f"{folder}/joint-{scheme}.png", full_page=True)
    assert problems == []
    page.close()


def test_a_page_without_an_edit_says_what_was_measured_and_draws_no_empty_plot(browser: Any, tmp_path: Path) -> None:
    base = [replace(record, thinking_tokens=None) for record in evidence(30).evaluation["tiny"]["base"]]
    alone = Evidence(model="tiny", evaluation={"tiny": {"base": base}})
    write_page(summarise(alone), browser_rows(alone.evaluation, None), tmp_path / "alone.html")
    page, problems = opened(browser, tmp_path / "alone.html")
    assert page.locator("#result .card h3").all_inner_texts() == ["Accuracy, tiny", "Thoughts not closed, tiny"]
    assert page.locator("figure").count() == 0
    page.select_option("#flip", "failed")
    assert all("wrong" in text for text in page.locator("#questions .about").all_inner_texts())
    assert problems == []
    page.close()


def test_a_printed_page_shows_every_table_and_no_controls(browser: Any, reports: dict[str, Path], tmp_path: Path) -> None:
    page, problems = opened(browser, reports["plain"])
    folder = Path(os.environ.get("THINKEDIT_PAGE_PICTURES") or tmp_path)
    page.pdf(path=folder / "report.pdf", format="A4")
    assert (folder / "report.pdf").stat().st_size > 20_000
    assert page.locator(".sheet:not([open])").count() == 0
    assert problems == []
    page.close()


def test_hostile_text_is_shown_and_never_run(browser: Any, reports: dict[str, Path]) -> None:
    page, problems = opened(browser, reports["hostile"])
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.fill("#search", "window.hacked")
    page.wait_for_timeout(100)
    assert page.locator("#questions .question").count() > 0
    assert page.evaluate("window.hacked") is None
    assert page.locator("main script, main img, main style, main svg[onload]").count() == 0
    assert HOSTILE[0] in page.locator("#questions").inner_text()
    page.fill("#search", "right to left")
    shown = page.locator("#questions").inner_text()
    assert "[U+202E]right to left[U+202C]" in shown
    assert "\u202e" not in shown
    assert page.locator(".kicker strong").inner_text() == HOSTILE[1]
    assert problems == []
    page.close()


def test_search_and_filters_narrow_the_questions(browser: Any, reports: dict[str, Path]) -> None:
    page, problems = opened(browser, reports["plain"])
    cards, state = page.locator("#questions .question"), page.locator("#answers [role=status]")
    assert state.inner_text() == "120 questions"
    assert cards.count() == 15
    page.click("text=Show more")
    assert cards.count() == 30
    page.fill("#search", "marbles")
    assert 0 < int(state.inner_text().split()[0]) < 120
    assert all("marbles" in text for text in cards.all_inner_texts())
    assert page.locator("mark").count() > 0
    page.fill("#search", "")
    page.select_option("#flip", "won")
    assert all("wrong \u2192 right" in text for text in cards.all_inner_texts())
    assert cards.count() > 0
    page.select_option("#group", "other topics")
    assert all("other topics" in text for text in cards.all_inner_texts())
    page.fill("#search", "no such words anywhere")
    assert state.inner_text() == "0 of 120 questions"
    assert cards.count() == 0
    assert problems == []
    page.close()


def test_pointer_keyboard_and_legend_reach_the_figures(browser: Any, reports: dict[str, Path]) -> None:
    page, problems = opened(browser, reports["plain"])
    steering = page.locator("#steering figure").first
    steering.locator(".canvas .plot").focus()
    page.keyboard.press("Home")
    assert "\u03b1 = \u22120.60" in steering.locator(".tip").inner_text()
    page.keyboard.press("ArrowRight")
    assert "\u03b1 = \u22120.40" in steering.locator(".tip").inner_text()
    page.keyboard.press("Escape")
    assert steering.locator(".tip").is_hidden()
    before = steering.locator(".canvas .line").count()
    steering.locator(".legend button").first.click()
    assert steering.locator(".canvas .line").count() == before - 1
    heads = page.locator("#heads .canvas .plot")
    heads.focus()
    for key in ("Home", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert "layer 1, head 1" in page.locator("#heads .tip").inner_text()
    heads.hover(position={"x": 90, "y": 20})
    assert "layer 0, head 0" in page.locator("#heads .tip").inner_text()
    assert problems == []
    page.close()


def test_landmarks_labels_theme_and_small_screens(browser: Any, reports: dict[str, Path]) -> None:
    page, problems = opened(browser, reports["plain"])
    assert page.locator("main, nav[aria-label], header, footer").count() == 4
    assert page.locator("h1").count() == 1
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, select, input, svg.plot[tabindex]')].filter(n => "
        "!(n.getAttribute('aria-label') || n.textContent.trim() || n.labels?.length)).length"
    )
    assert unnamed == 0
    page.click("#theme")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.set_viewport_size({"width": 380, "height": 800})
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    if folder := os.environ.get("THINKEDIT_PAGE_PICTURES"):
        page.screenshot(path=f"{folder}/report-narrow.png", full_page=True)
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert problems == []
    page.close()
