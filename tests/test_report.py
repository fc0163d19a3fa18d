"""The summary, its tables and pictures, and what happens where parts are missing."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import arm, evidence

from thinkedit.report import Evidence, write_report
from thinkedit.report.browser import browser_rows, clipped, split_thought
from thinkedit.report.published import published_accuracy
from thinkedit.report.summary import plain, scales, summarise
from thinkedit.report.table import Cell, Table, to_csv, to_latex, to_markdown, to_rich
from thinkedit.report.tables import all_tables, evaluation_tables, steering_table


@pytest.fixture(scope="module")
def summary() -> dict:
    return summarise(evidence(100))


def test_summary_is_plain_json_and_the_same_again(summary: dict) -> None:
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summarise(evidence(60, steering=False)) == summarise(evidence(60, steering=False))


def test_the_verdict_is_the_paired_difference_over_all_questions(summary: dict) -> None:
    own = evidence(60, steering=False).evaluation["tiny"]
    two = summarise(Evidence("m", evaluation={"a": own, "b": {k: [replace(r, task="b") for r in v] for k, v in own.items()}}))
    assert two["verdict"]["primary"]["n"] == 120
    difference = np.mean([r.correct for r in own["edited"]]) - np.mean([r.correct for r in own["base"]])
    assert two["verdict"]["primary"]["value"] == pytest.approx(difference)
    assert summary["verdict"]["claim"] == "rose"
    assert (
        summary["verdict"]["primary"]["value"]
        == summary["evaluation"]["tiny"]["comparisons"]["edited"]["accuracy_difference"]["value"]
    )


def test_with_several_doses_the_primary_arm_is_the_one_named() -> None:
    arms = {"base": arm(40), "edited n=5": arm(40, seed=2), "edited n=10": arm(40, seed=3)}
    assert summarise(Evidence("m", evaluation={"t": arms}))["verdict"]["primary"]["arm"] == "edited n=5"
    assert (
        summarise(Evidence("m", evaluation={"t": arms}, primary_arm="edited n=10"))["verdict"]["primary"]["arm"]
        == "edited n=10"
    )


@pytest.mark.parametrize(
    "part",
    [
        Evidence("m"),
        Evidence("m", probe=arm(20, 1)),
        Evidence("m", evaluation={"t": {"base": arm(20)}}),
        Evidence("m", evaluation={"t": {"one model": arm(20), "another": arm(20, seed=2)}}),
        Evidence("m", evaluation={"t": {"base": arm(20, 1), "edited": arm(20, 1, seed=2)}}),
        Evidence("m", evaluation={"t": {"base": arm(20, open_share=1.1), "edited": arm(20, open_share=1.1, seed=2)}}),
        Evidence("m", evaluation={"t": {"base": arm(1), "edited": arm(1, seed=2)}}),
        Evidence("m", evaluation={"t": {"base": [], "edited": []}}),
        Evidence("m", contributions=np.zeros((3, 5))),
        Evidence("m", steering=arm(10, 1)),
        Evidence("m", evaluation={"t": {"base": [replace(r, correct=None) for r in arm(20)], "edited": arm(20, seed=2)}}),
    ],
)
def test_any_part_may_be_missing(part: Evidence, tmp_path: Path) -> None:
    summary = write_report(part, tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert (tmp_path / "report" / "index.html").exists()


def test_report_holds_summary_page_tables_and_pictures(tmp_path: Path) -> None:
    write_report(evidence(40), tmp_path)
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {
        "heads.png",
        "steering.png",
        "layer-scan.png",
        "lengths.png",
        "accuracy-by-length.png",
        "tables.md",
    } <= names
    assert {
        "overall-accuracy.csv",
        "overall-accuracy.tex",
        "shortest-thinking-length.csv",
        "steering.csv",
        "index.html",
    } <= names
    assert (tmp_path / "report" / "index.html").stat().st_size < 1_000_000
    assert not list(tmp_path.rglob(".*"))


def test_a_report_leaves_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    whole = evidence(20)
    write_report(whole, tmp_path)
    assert (tmp_path / "report" / "steering.png").is_file()
    write_report(replace(whole, steering=[]), tmp_path)
    assert (tmp_path / "report" / "index.html").is_file()
    assert not (tmp_path / "report" / "steering.png").exists()
    assert not list(tmp_path.glob(".*"))


def test_every_table_says_how_many_thoughts_were_left_out(summary: dict) -> None:
    for table in all_tables(summary):
        assert "not closed" in table.columns or "truncated" in table.columns, table.name
        assert "closed" in table.note


def test_table_cells_are_the_summarys_figures(summary: dict) -> None:
    overall = evaluation_tables(summary)[0]
    base = summary["evaluation"]["tiny"]["arms"]["base"]
    cell = overall.rows[0][1]
    assert isinstance(cell, Cell)
    assert cell.value == pytest.approx(100 * base["accuracy"]["value"])
    assert cell.sd == pytest.approx(100 * base["accuracy_sd_over_runs"])
    assert len(steering_table(summary).rows) == 18


def test_published_figures_stand_beside_ones_own() -> None:
    assert published_accuracy("deepseek-qwen-1.5b", "gsm8k", False) == 79.15
    assert published_accuracy("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "gsm8k", True) == 89.44
    assert published_accuracy("tiny", "gsm8k", True) is None
    arms = {"base": arm(10, task="gsm8k"), "edited": arm(10, task="gsm8k", seed=2)}
    summary = summarise(Evidence("deepseek-qwen-1.5b", evaluation={"gsm8k": arms}))
    first = evaluation_tables(summary, published=True)[0]
    assert first.columns == ["model", "gsm8k", "gsm8k, paper", "not closed"]
    assert [row[2].value for row in first.rows] == [79.15, 84.56]


def test_cells_print_sd_interval_sign_and_dash() -> None:
    assert str(Cell(12.345, sd=0.5)) == "12.3 \u00b1 0.5"
    assert str(Cell(-1.0, low=-2.0, high=0.04, signed=True)) == "\u22121.0 [\u22122.0, 0.0]"
    assert str(Cell(None)) == "\u2013"
    assert str(Cell(1234.0, digits=0)) == "1,234"
    assert str(Cell(1e-9, digits=4, tiny=True)) == "< 0.0001"


def test_four_renderers_keep_hostile_labels_as_text() -> None:
    label = "=cmd|'<script>_x_$&%#{}[red]"
    table = Table("t", "A title", ["model", "value"], [[label, Cell(1.5, low=1.0, high=2.0)]], "A note.", labels=1)
    rows = list(csv.reader(io.StringIO(to_csv(table))))
    assert rows == [["model", "value", "value low", "value high"], ["'" + label, "1.5", "1.0", "2.0"]]
    assert "\\|" in to_markdown(table)
    assert "<script>" not in to_markdown(table)
    assert "\\_x\\_\\$\\&\\%\\#\\{\\}" in to_latex(table)
    from rich.console import Console

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(to_rich(table))
    text = console.export_text()
    assert label in text
    assert "1.5 [1.0, 2.0]" in text


def test_histogram_edges_and_thresholds_span_the_lengths(summary: dict) -> None:
    from thinkedit.metrics import grid

    edges, thresholds = scales([grid(arm(100))])
    assert (np.diff(edges) > 0).all()
    assert (np.diff(thresholds) > 0).all()
    task = summary["evaluation"]["tiny"]
    for own in task["arms"].values():
        assert sum(own["histogram"]) == own["statuses"]["closed"]


def test_plain_turns_what_is_not_finite_into_null() -> None:
    assert plain({"a": np.float32(1.5), "b": math.nan, "c": (np.int64(2), np.True_, None), 3: Path("x")}) == {
        "a": 1.5, "b": None, "c": [2, True, None], "3": "x",
    }  # fmt: skip


def test_thoughts_are_split_whoever_opened_them_and_cut_with_a_note() -> None:
    record = arm(1)[0]
    assert split_thought(replace(record, text="<think>\na b</think>\nc", status="closed")) == ("a b", "c")
    assert split_thought(replace(record, text="a b</think>c", status="closed")) == ("a b", "c")
    assert split_thought(replace(record, text="<think> a", status="truncated")) == ("a", "")
    assert split_thought(replace(record, text="just 4", status="absent")) == ("", "just 4")
    text = clipped("x" * 5_000, 100, 50)
    assert "[4,850 characters cut]" in text
    assert len(text) < 200
    assert clipped("short", 100) == "short"


def test_other_think_tags_are_split_at_too() -> None:
    record = replace(arm(1, 1)[0], text="<reason> so </reason> 7", status="closed", think_tags=["<reason>", "</reason>"])
    assert split_thought(record) == ("so", "7")
    assert split_thought(replace(record, text="so </reason> 7")) == ("so", "7")


def test_browser_keeps_flips_first_and_stays_small() -> None:
    arms = evidence(200, steering=False).evaluation
    everything = browser_rows(arms, "edited", 1_000)
    some = browser_rows(arms, "edited", 60)
    flips = [row["id"] for row in everything if row["flip"] in ("won", "lost")]
    assert len(everything) == 200
    assert len(some) == 60
    assert set(flips[:30]) <= {row["id"] for row in some} or len(flips) > 30
    assert [row["id"] for row in some] == sorted(row["id"] for row in some)
    huge = {"t": {"base": [replace(r, text="<think>" + "\u4e00" * 50_000 + "</think> 1") for r in arm(300)]}}
    assert len(json.dumps(browser_rows(huge, None))) < 3_500_000
