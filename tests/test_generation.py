"""From questions to records: what is forced, what is left out, what a second call adds."""

import pytest
from random_models import byte_tokenizer

from thinkedit.chat import Chat
from thinkedit.engines.base import Sampling
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.errors import ThinkEditError
from thinkedit.generation import Label, Responder
from thinkedit.grading import Grader
from thinkedit.models import ModelSource
from thinkedit.records import RecordFile
from thinkedit.tasks import get_task
from thinkedit.tasks.base import Question

TASK = get_task("gsm8k")


@pytest.fixture(scope="module")
def grader():
    with Grader() as one:
        yield one


def questions(count, words=3):
    return [Question(id=str(i), text=f"{i} " + "plus one " * words, gold="1", form="number") for i in range(count)]


def responder(path, grader, said=None, forced=8, cap=20):
    engine = TransformersEngine(ModelSource(path.name, path), [256], device="cpu", batch_size=4)
    say = said.append if said is not None else lambda _line: None
    return Responder(engine, Chat(byte_tokenizer()), grader, Sampling(cap, temperature=1.0), 0, forced, say)


def test_cut_thoughts_get_a_forced_answer_and_their_own_tokens_stay(checkpoint, grader, tmp_path):
    path = checkpoint("llama")
    forced = responder(path, grader).answer(TASK, questions(9), 2, Label("m"), RecordFile(tmp_path / "a.jsonl"))
    plain = responder(path, grader, forced=0).answer(TASK, questions(9), 2, Label("m"), RecordFile(tmp_path / "b.jsonl"))
    cut = {record.key for record in plain if record.status == "truncated"}
    assert cut
    assert {record.key: record.token_ids for record in forced} == {record.key: record.token_ids for record in plain}
    assert {record.key for record in forced if record.forced} == cut
    assert all(record.forced is None for record in plain)


def test_questions_beyond_the_context_are_left_out_and_named(checkpoint, grader, tmp_path):
    said = []
    asking = responder(checkpoint("llama"), grader, said)
    asking.engine.context = 200
    asked = [*questions(3), Question(id="long", text="why " * 100, gold="1", form="number")]
    records = asking.answer(TASK, asked, 1, Label("m"), RecordFile(tmp_path / "a.jsonl"))
    assert {record.question_id for record in records} == {"0", "1", "2"}
    assert "1 of 4 questions" in said[0]
    assert "long" in said[0]
    with pytest.raises(ThinkEditError, match="Not one of the questions"):
        asking.answer(TASK, asked[3:], 1, Label("m"), RecordFile(tmp_path / "b.jsonl"))


def test_a_second_call_adds_what_is_missing_and_nothing_else(checkpoint, grader, tmp_path):
    file = tmp_path / "a.jsonl"
    asking = responder(checkpoint("llama"), grader)
    first = asking.answer(TASK, questions(4), 1, Label("m"), RecordFile(file))
    counted = []
    more = asking.answer(
        TASK, questions(6), 2, Label("m"), RecordFile(file), lambda count, *, kept=False: counted.append((count, kept))
    )
    assert sorted(r.key for r in more) == sorted((str(i), s) for i in range(6) for s in range(2))
    assert [r for r in more if r in first] == first
    assert sum(count for count, kept in counted if kept) == 4
    assert sum(count for count, kept in counted if not kept) == 8
    assert len(file.read_text().splitlines()) == 12
