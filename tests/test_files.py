"""Files are whole or absent, torn lines are dropped, directories have one owner."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from safetensors import safe_open

from thinkedit.artifacts import tensor_map
from thinkedit.errors import ThinkEditError
from thinkedit.files import (
    append_json_lines,
    drop_torn_line,
    exclusive,
    read_json_lines,
    whole_directory,
    whole_file,
)
from thinkedit.records import RecordFile, parse_record, read_entries, read_records

RECORD = {"task": "t", "question_id": "q", "question": "?", "gold": "1", "sample": 0, "text": "", "status": "closed"}


def test_a_disk_that_cannot_keep_what_was_written_leaves_what_was_there(tmp_path, monkeypatch):
    """Some file systems find out that they are full when they are to keep the pages that they took."""
    path = tmp_path / "x.json"
    path.write_text("old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), whole_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "old").touch()
    with pytest.raises(RuntimeError), whole_directory(tmp_path / "directory") as temporary:  # noqa: PT012
        (temporary / "new").touch()
        raise RuntimeError
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["directory", "file.json"]
    assert [p.name for p in (tmp_path / "directory").iterdir()] == ["old"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=6), st.integers(0, 400))
def test_cutting_a_records_file_anywhere_loses_at_most_the_cut_line(tmp_path_factory, texts, cut):
    path = tmp_path_factory.mktemp("cut") / "r.jsonl"
    append_json_lines(path, ({**RECORD, "sample": i, "text": text} for i, text in enumerate(texts)))
    data = path.read_bytes()[:cut]
    path.write_bytes(data)
    assert drop_torn_line(path) == bool(data.rpartition(b"\n")[2])
    assert [record.text for record in read_records(path)] == texts[: data.count(b"\n")]


def test_what_a_killed_writer_left_is_cleared_and_what_another_is_writing_is_not(tmp_path):
    path, folder = tmp_path / "a.json", tmp_path / "folder"
    left = [tmp_path / ".a.json.unfinished-1.json", tmp_path / ".folder.unfinished-2"]
    left[0].write_text("half")
    left[1].mkdir()
    theirs = tmp_path / ".a.json.backup"
    theirs.touch()
    with whole_file(path) as first:
        first.write_text("first")
        with whole_file(path) as second:
            second.write_text("second")
        assert first.exists()
    with whole_directory(folder):
        pass
    assert path.read_text() == "first"
    assert sorted(tmp_path.iterdir()) == sorted([path, folder, theirs])


@pytest.mark.parametrize("change", [lambda p: p.unlink(), lambda p: p.open("a").write("{}\n"), lambda p: os.truncate(p, 9)])
def test_a_records_file_that_vanishes_or_changes_in_mid_run_is_noticed(tmp_path, change):
    file = RecordFile(tmp_path / "r.jsonl")
    record = parse_record(RECORD)
    file.append([record])
    file.append([replace(record, sample=1)])
    change(file.path)
    with pytest.raises(ThinkEditError, match="removed or changed while this command was at work"):
        file.append([replace(record, sample=2)])


def test_a_directory_that_is_replaced_is_noticed(tmp_path):
    with exclusive(tmp_path / "run") as still_there:
        still_there()
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(ThinkEditError, match="removed or replaced"):
            still_there()
        with exclusive(tmp_path / "run"), pytest.raises(ThinkEditError, match="removed or replaced"):
            still_there()


def test_what_is_read_does_not_depend_on_which_answer_came_first(tmp_path):
    rows = [{**RECORD, "question_id": f"q{name}", "sample": sample} for sample in (0, 1) for name in ("2", "10", "10b", "x")]
    entry = {"path": "r.jsonl", "samples": 2, "only": None}
    keys = [(row["question_id"], row["sample"]) for row in rows]
    for order in (rows, rows[::-1], rows[3:] + rows[:3]):
        (tmp_path / "r.jsonl").unlink(missing_ok=True)
        append_json_lines(tmp_path / "r.jsonl", order)
        assert [record.key for record in read_entries(tmp_path, [entry])] == keys


def test_a_records_file_goes_on_behind_a_torn_line(tmp_path):
    path = tmp_path / "r.jsonl"
    append_json_lines(path, [RECORD, {**RECORD, "sample": 1}])
    with path.open("ab") as file:
        file.write(b'{"task": "t", "quest')
    file = RecordFile(path)
    assert [record.sample for record in file.records] == [0, 1]
    file.append([file.records[0].graded("1", True, "correct")])
    assert len(read_records(path)) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"a": ', "line 2: not valid JSON"),
        ("[1]", "line 2: expected a JSON object, found list"),
        ('{"a": 1}', "line 2: not a record"),
    ],
)
def test_foreign_lines_are_named_by_number(tmp_path, line, words):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(RECORD) + "\n" + line + "\n")
    with pytest.raises(ThinkEditError, match=words):
        read_records(path)


def test_a_directory_has_one_owner_and_a_dead_one_does_not_count(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from thinkedit.files import exclusive\n"
        f"with exclusive(Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(ThinkEditError, match=f"in use by process {owner.pid}"), exclusive(tmp_path):
        pass
    owner.kill()
    owner.wait()
    with exclusive(tmp_path):
        pass


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_safetensors_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(ThinkEditError):
        tensor_map.open_arrays(path)


@pytest.mark.parametrize("header", [{"\ud800": {}}, {"__metadata__": {"a": "\udc00"}}, {"__metadata__": {"\ud800": "a"}}])
def test_half_characters_in_a_header_are_refused(tmp_path, header):
    """They could be neither hashed nor shown."""
    path = tmp_path / "x.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ThinkEditError, match="holds half of a surrogate pair"):
        tensor_map.read_header(path)


@settings(max_examples=50, deadline=None)
@given(
    arrays=st.dictionaries(st.text(st.characters(codec="ascii"), min_size=1), npst.arrays(np.float32, npst.array_shapes())),
    metadata=st.dictionaries(st.text(), st.text()),
)
def test_what_is_written_as_safetensors_is_what_the_library_reads_and_its_bytes_hang_on_nothing_else(
    tmp_path_factory, arrays, metadata
):
    arrays.pop("__metadata__", None)
    path = tmp_path_factory.mktemp("written") / "x.safetensors"
    tensor_map.write(path, arrays, metadata)
    with safe_open(path, "numpy") as file:
        assert (file.metadata() or {}) == metadata
        assert set(file.keys()) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
    first = path.read_bytes()
    tensor_map.write(path, {name: np.asfortranarray(array) for name, array in arrays.items()}, metadata)
    assert path.read_bytes() == first


def test_lines_are_numbered_from_one(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [(n, v["a"]) for n, v in read_json_lines(path)] == [(1, 1), (3, 2)]


def test_answers_that_were_removed_or_doubled_by_hand_are_noticed(tmp_path):
    path, entry = tmp_path / "r.jsonl", {"path": "r.jsonl", "samples": 1, "only": None, "records": 2}
    rows = [RECORD, {**RECORD, "question_id": "p"}]
    append_json_lines(path, rows)
    assert len(read_entries(tmp_path, [entry])) == 2
    append_json_lines(path, rows[:1])
    for read in (lambda: read_entries(tmp_path, [entry]), lambda: RecordFile(path)):
        with pytest.raises(ThinkEditError, match="two answers to question q, sample 0"):
            read()
    for left in (1, 0):
        path.unlink(missing_ok=True)
        append_json_lines(path, rows[:left])
        with pytest.raises(ThinkEditError, match=f"{left} of the 2 answers"):
            read_entries(tmp_path, [entry])
    path.unlink()
    with pytest.raises(ThinkEditError, match="0 of the 2 answers"):
        read_entries(tmp_path, [entry])
