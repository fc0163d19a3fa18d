"""Grading saved records again changes verdicts and nothing else, and an interruption loses nothing."""

import json
from pathlib import Path

import pytest
from made_up import arm

from thinkedit.errors import ThinkEditError
from thinkedit.files import exclusive
from thinkedit.grading import Grader
from thinkedit.pipeline.bring import Asked, bring
from thinkedit.pipeline.regrade import regrade
from thinkedit.records import Record, RecordFile, read_records


@pytest.fixture
def run(tmp_path) -> Path:
    """A directory like a run's, with 40 evaluated records."""
    source = tmp_path / "mine.jsonl"
    RecordFile(source).append(arm(20))
    bring([source], tmp_path / "run", Asked(model="tiny"))
    return tmp_path / "run"


def spoil(path: Path, *places: int) -> None:
    """Turns verdicts round, and gives every line a field that is not ours."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for place in places:
        rows[place] |= {"correct": not rows[place]["correct"], "verdict": "timed out"}
    path.write_text("".join(json.dumps(row | {"note": place}) + "\n" for place, row in enumerate(rows)))


def test_only_verdicts_change_and_the_changes_are_shown(run, thinkedit):
    path = run / "evaluate" / "tiny-base.jsonl"
    thinkedit("regrade", run)
    before = path.read_text()
    spoil(path, 3, 7)
    done = thinkedit("regrade", run)
    assert done.code == 0
    assert "40 records in 1 file: 2 verdicts changed" in done.out
    assert "timed out to" in done.out
    assert "expected:" in done.out
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row.pop("note") for row in rows] == list(range(40))
    assert rows == [json.loads(line) for line in before.splitlines()]


def test_a_dry_run_writes_nothing(run, thinkedit):
    path = run / "evaluate" / "tiny-base.jsonl"
    spoil(path, 3)
    before = path.read_bytes()
    assert "1 verdicts would change" in thinkedit("regrade", run, "--dry-run").out
    assert path.read_bytes() == before


def test_a_file_without_changes_is_not_written(run):
    path = run / "evaluate" / "tiny-base.jsonl"
    with Grader() as grader:
        regrade([run], grader)
        before = path.stat().st_mtime_ns
        assert regrade([run], grader).changed == 0
    assert path.stat().st_mtime_ns == before


def test_an_interruption_leaves_every_file_whole(run):
    path = run / "evaluate" / "tiny-base.jsonl"
    spoil(path, 3)
    before = path.read_bytes()

    class Stops(Grader):
        def grade(self, items):
            raise KeyboardInterrupt

    with Stops() as grader, pytest.raises(KeyboardInterrupt):
        regrade([run], grader)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_run_in_use_is_left_alone(run, thinkedit):
    with exclusive(run):
        done = thinkedit("regrade", run)
    assert done.code == 1
    assert "in use" in done.error


def test_a_torn_last_line_of_a_run_is_dropped_as_the_run_would(run):
    path = run / "evaluate" / "tiny-base.jsonl"
    path.write_bytes(path.read_bytes() + b'{"task": "tiny"')
    with Grader() as grader:
        assert regrade([run], grader).records == 40
    assert len(read_records(path)) == 40


def test_what_was_not_kept_cannot_be_graded_and_stays(tmp_path):
    silent = Record("t", "1", "", "5", 0, 0, [], [], "", 12, "closed", "stop", correct=True, verdict="correct")
    ungiven = Record("t", "2", "", "", 0, 0, [], [], "<think></think> 7", 12, "closed", "stop")
    RecordFile(tmp_path / "a.jsonl").append([silent, ungiven])
    with Grader() as grader:
        result = regrade([tmp_path / "a.jsonl"], grader)
    assert (result.kept, result.changed) == (2, 0)


def test_thoughts_in_other_tags_are_never_graded(tmp_path):
    record = Record(
        "t", "1", "q", "5", 0, 0, [], [], "<reason> \\boxed{5} </reason> \\boxed{6}", 5, "closed", "stop",
        correct=True, verdict="correct", form="number", think_tags=["<reason>", "</reason>"],
    )  # fmt: skip
    RecordFile(tmp_path / "a.jsonl").append([record])
    with Grader() as grader:
        regrade([tmp_path / "a.jsonl"], grader)
    assert read_records(tmp_path / "a.jsonl")[0].answer == "6"


def test_what_is_no_record_is_named_with_its_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"some": 1}\n')
    with Grader() as grader:
        with pytest.raises(ThinkEditError, match="line 1"):
            regrade([tmp_path / "a.jsonl"], grader)
        with pytest.raises(ThinkEditError, match="does not exist"):
            regrade([tmp_path / "nothing"], grader)
        (tmp_path / "empty").mkdir()
        with pytest.raises(ThinkEditError, match="no records"):
            regrade([tmp_path / "empty"], grader)
