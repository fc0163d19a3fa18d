"""Several models in one report, without their models; each judged by itself."""

import csv
import json
from pathlib import Path

import pytest
from foreign import MODEL, archive
from made_up import evidence

from thinkedit.files import read_json
from thinkedit.pipeline.bring import bring
from thinkedit.report.joint import joint_evaluation, joint_summary
from thinkedit.report.lm_eval import write_lm_eval
from thinkedit.report.summary import summarise
from thinkedit.report.tables import joint_tables


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("joint")
    bring([archive(root / "archive", (MODEL, "deepseek-llama3-8b"))], root / "imported")
    return root / "imported"


def test_any_number_of_models_and_datasets_make_one_report(imported, tmp_path, thinkedit, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    done = thinkedit("analyze", imported, "--out", tmp_path / "joint", "--published")
    assert done.code == 0, done.error
    assert "Overall accuracy (%)" in done.out
    assert done.out.count("raised accuracy by") == 2
    report = tmp_path / "joint" / "report"
    names = {path.name for path in report.iterdir()}
    assert {"index.html", "tables.md", "accuracy.png", "accuracy-by-length-of-bases-gsm8k.png"} <= names
    for table in ("overall-accuracy", "overall-thinking-length", "shortest-accuracy", "shortest-thinking-length"):
        assert {f"{table}.csv", f"{table}.tex"} <= names
    rows = list(csv.reader((report / "overall-accuracy.csv").open()))
    assert [row[:2] for row in rows[1:]] == [[m, a] for m in ("deepseek-llama3-8b", MODEL) for a in ("base", "edited")]
    assert "gsm8k, paper" in rows[0]
    assert "79.15" in {cell for row in rows for cell in row}
    assert (report / "index.html").stat().st_size < 5_000_000
    summary = read_json(tmp_path / "joint" / "summary.json")
    assert "verdict" not in summary
    assert [one["verdict"]["claim"] for one in summary["models"]] == ["rose", "rose"]


def test_joint_figures_are_those_of_each_model_alone(imported, tmp_path, thinkedit):
    thinkedit("analyze", imported, "--out", tmp_path / "joint")
    thinkedit("analyze", imported / MODEL, "--out", tmp_path / "alone")
    joint, alone = (read_json(tmp_path / name / "summary.json") for name in ("joint", "alone"))
    assert joint["evaluation"][f"{MODEL}: gsm8k"] == alone["evaluation"]["gsm8k"]
    assert joint["summaries"][MODEL]["verdict"] == alone["verdict"]
    assert not (imported / MODEL / "report").exists()


def test_one_path_is_reported_where_it_lies(imported, thinkedit):
    assert thinkedit("analyze", imported / MODEL).code == 0
    assert (imported / MODEL / "report" / "index.html").is_file()


def test_a_run_is_not_overwritten_by_a_joint_report(imported, thinkedit):
    done = thinkedit("analyze", imported, "--out", imported / MODEL)
    assert done.code == 1
    assert "another --out" in done.error


def test_two_runs_of_one_model_keep_apart(tmp_path):
    parts = {"tiny (a)": evidence(30, steering=False), "tiny (b)": evidence(40, steering=False)}
    summaries = {name: summarise(part) for name, part in parts.items()}
    joint = joint_summary(summaries)
    assert list(joint["evaluation"]) == ["tiny (a): tiny", "tiny (b): tiny"]
    assert list(joint_evaluation(parts)["tiny (a): tiny"]) == ["base", "edited"]
    table = joint_tables(summaries)[0]
    assert table.columns[:2] == ["model", "arm"]
    assert [row[0] for row in table.rows] == ["tiny (a)"] * 2 + ["tiny (b)"] * 2


class TestLmEval:
    def test_results_have_the_shape_that_its_tools_read(self, tmp_path):
        part = evidence(40, steering=False)
        path = write_lm_eval(part, tmp_path / "lm-eval")[0]
        value = read_json(path)
        keys = {"results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config"}
        assert keys <= set(value)
        figures = value["results"]["tiny"]
        own = summarise(part)["evaluation"]["tiny"]["arms"]["base"]
        assert figures["alias"] == "tiny"
        assert figures["exact_match,none"] == pytest.approx(own["accuracy"]["value"])
        assert 0 < figures["exact_match_stderr,none"] < 0.2
        assert value["n-samples"]["tiny"] == {"original": 40, "effective": 40}

    def test_samples_are_a_line_a_question_and_placebos_are_left_out(self, tmp_path):
        write_lm_eval(evidence(40, steering=False), tmp_path / "lm-eval", samples=True)
        assert sorted(path.name for path in (tmp_path / "lm-eval").iterdir()) == ["tiny__base", "tiny__edited"]
        (file,) = (tmp_path / "lm-eval" / "tiny__base").glob("samples_tiny_*.jsonl")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(lines) == 40
        assert [len(line["resps"][0]) for line in lines] == [2] * 40
        assert all(0 <= line["exact_match"] <= 1 for line in lines)

    def test_an_earlier_report_is_replaced(self, tmp_path):
        for _ in range(2):
            write_lm_eval(evidence(20, steering=False), tmp_path / "lm-eval", samples=True)
        assert len(list((tmp_path / "lm-eval").rglob("results_*.json"))) == 2
