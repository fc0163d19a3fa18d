"""Questions in, records out: asks an engine, finds the thoughts, forces answers where a thought was cut, grades, writes."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from thinkedit.chat import Chat, Thought
from thinkedit.engines.base import UNTREATED, Completion, Engine, Fleet, Request, Sampling, Treatment, complete, request_seed
from thinkedit.errors import ThinkEditError
from thinkedit.grading import Grader
from thinkedit.progress import Advance, ignore
from thinkedit.records import THINK_TAGS, Record, RecordFile, in_order
from thinkedit.tasks.base import Question, Task

WRITE_EVERY = 64  # records, or
WRITE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Label:
    """What shaped a record besides its question; kept on it."""

    model: str
    control: str | None = None
    alpha: float | None = None
    layer: int | None = None
    edit: str | None = None


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Questions to the model under one treatment, and the file that keeps the answers."""

    task: Task
    questions: Sequence[Question]
    samples: int
    label: Label
    file: RecordFile
    treatment: Treatment = UNTREATED


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back for a request; `forced` is what the model said when its cut thought had been closed by hand."""

    request: Request
    done: Completion
    thought: Thought
    forced: Completion | None = None


class Responder:
    """Asks questions of one model. `forced_tokens` 0 leaves truncated thoughts without an answer."""

    def __init__(
        self,
        engine: Engine | Fleet,
        chat: Chat,
        grader: Grader,
        sampling: Sampling,
        seed: int,
        forced_tokens: int,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.engine, self.chat, self.grader, self.sampling = engine, chat, grader, sampling
        self.seed, self.forced_tokens, self.say = seed, forced_tokens, say
        self._prompts: dict[str, tuple[int, ...]] = {}

    def answer(
        self, task: Task, questions: Sequence[Question], samples: int, label: Label, file: RecordFile, advance: Advance = ignore
    ) -> list[Record]:
        """The same as `answer_all` for one inquiry of the untreated model."""
        return self.answer_all([Inquiry(task, questions, samples, label, file)], advance)[0]

    def answer_all(self, inquiries: Sequence[Inquiry], advance: Advance = ignore) -> list[list[Record]]:
        """Adds to the file of each inquiry what it lacks of the answers; gives the records asked for, inquiry by inquiry.

        Questions that do not fit into the model's context are left out, and said to be.
        """
        asked = [_Asked(self, inquiry, advance) for inquiry in inquiries]
        parts = [(inquiry.treatment, one.queue) for inquiry, one in zip(inquiries, asked, strict=True)]
        for index, completion in complete(self.engine, parts, self.sampling):
            asked[index].take(completion)
        return [one.records() for one in asked]

    def prompt(self, text: str) -> tuple[int, ...]:
        if text not in self._prompts:
            self._prompts[text] = tuple(self.chat.prompt_ids(text))
        return self._prompts[text]

    def fitting(self, questions: dict[str, Question], prompts: dict[str, tuple[int, ...]]) -> dict[str, Question]:
        fitting = {name: question for name, question in questions.items() if len(prompts[name]) < self.engine.context}
        missing = [name for name in questions if name not in fitting]
        if questions and not fitting:
            raise ThinkEditError(f"Not one of the questions fits into the model's context of {self.engine.context:,} tokens.")
        if missing:
            named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            self.say(
                f"{len(missing)} of {len(questions)} questions do not fit into the context of {self.engine.context:,} tokens "
                f"and are left out: {named}"
            )
        return fitting

    def record(self, task: Task, question: Question, answer: _Answer, label: Label) -> Record:
        """The answer as a record, not graded yet."""
        request, done, thought = answer.request, answer.done, answer.thought
        forced = None if answer.forced is None else self.chat.forced_suffix()[1] + self.chat.decode(answer.forced.token_ids)
        return Record(
            task=task.name,
            question_id=question.id,
            question=question.text,
            gold=question.gold,
            sample=request.key[1],
            seed=request.seed,
            prompt_ids=list(request.prompt_ids),
            token_ids=done.token_ids,
            text=self.chat.decode(done.token_ids),
            thinking_tokens=thought.tokens,
            status=thought.status,
            finish_reason=done.finish_reason,
            forced=forced,
            form=question.form,
            choices=list(question.choices) or None,
            group=question.group,
            model=label.model,
            control=label.control,
            alpha=label.alpha,
            layer=label.layer,
            edit=label.edit,
            think_tags=None if self.chat.think_tags == THINK_TAGS else list(self.chat.think_tags),
        )

    def thought(self, request: Request, done: Completion) -> Thought:
        return self.chat.thought(request.prompt_ids, done.token_ids, at_cap=done.finish_reason == "length")

    def forced(self, answer: _Answer) -> Request | None:
        """Closes a truncated thought by hand and lets the model state its answer; None where that is not to be."""
        request = answer.request
        if answer.thought.status != "truncated" or not self.forced_tokens or not self.engine.continues:
            return None
        suffix, _ = self.chat.forced_suffix()
        room = self.engine.context - len(request.prompt_ids) - len(suffix) - self.forced_tokens
        if room <= 0:
            return None  # the context has no room for an answer
        prompt = (*request.prompt_ids, *answer.done.token_ids[:room], *suffix)
        seed = request_seed(request.seed, "forced answer", *request.key)
        return Request(request.key, prompt, seed, max_tokens=self.forced_tokens)


class _Asked:
    """An inquiry at work: `queue` is what an engine has to complete, forced answers included as thoughts are cut."""

    def __init__(self, responder: Responder, inquiry: Inquiry, advance: Advance) -> None:
        self.responder, self.inquiry = responder, inquiry
        task, file, samples = inquiry.task, inquiry.file, inquiry.samples
        asked = {question.id: task.ask(question) for question in inquiry.questions}
        prompts = {question_id: responder.prompt(text) for question_id, text in asked.items()}
        known = {question.id: question for question in inquiry.questions}
        check_same_data(file, known, prompts)
        self.known = known = responder.fitting(known, prompts)
        done = {record.key for record in file.records}
        keys = [(question_id, s) for s in range(samples) for question_id in known if (question_id, s) not in done]
        advance(samples * len(inquiry.questions) - len(keys), kept=True)
        seed = responder.seed
        self.requests = {
            (name, s): Request((name, s), prompts[name], request_seed(seed, task.name, name, s), question=asked[name])
            for name, s in keys
        }
        self.queue = deque(self.requests.values())
        self.left = len(self.requests)
        self.cut: dict[tuple[str, int], _Answer] = {}
        self.writer = _Writer(file, responder.grader, self._record, advance)

    def take(self, completion: Completion) -> None:
        key = completion.key
        if key in self.cut:
            return self._write(replace(self.cut.pop(key), forced=completion))
        request = self.requests[key]
        answer = _Answer(request, completion, self.responder.thought(request, completion))
        forced = self.responder.forced(answer)
        if forced is None:
            return self._write(answer)
        self.cut[key] = answer
        self.queue.appendleft(forced)

    def _write(self, answer: _Answer) -> None:
        self.writer.add(answer)
        self.left -= 1
        if not self.left:
            self.writer.flush()

    def _record(self, answer: _Answer) -> Record:
        return self.responder.record(self.inquiry.task, self.known[answer.request.key[0]], answer, self.inquiry.label)

    def records(self) -> list[Record]:
        inquiry = self.inquiry
        return in_order(r for r in inquiry.file.records if r.question_id in self.known and r.sample < inquiry.samples)


class _Writer:
    """Writes answers as graded records in small groups: a kill loses next to nothing, and what a group needs (the
    tokenizer, the grader) is fetched into the processor once, which the engine empties at every step."""

    def __init__(self, file: RecordFile, grader: Grader, record: Callable[[_Answer], Record], advance: Advance) -> None:
        self.file, self.grader, self.record, self.advance = file, grader, record, advance
        self.waiting: list[_Answer] = []
        self.last = time.monotonic()

    def add(self, answer: _Answer) -> None:
        self.waiting.append(answer)
        if len(self.waiting) >= WRITE_EVERY or time.monotonic() - self.last > WRITE_SECONDS:
            self.flush()

    def flush(self) -> None:
        self.file.append(grade([self.record(answer) for answer in self.waiting], self.grader))
        self.advance(len(self.waiting))
        self.waiting, self.last = [], time.monotonic()


def answer_text(record: Record) -> str:
    """What a record says outside of its thought; only this is graded."""
    if record.status == "closed":
        before, tag, after = record.text.partition(record.tags[1])
        return after if tag else before
    if record.status == "absent":
        return record.text
    return record.forced or ""


def grade(records: Sequence[Record], grader: Grader) -> list[Record]:
    verdicts = grader.grade([(answer_text(r), r.gold, r.form, tuple(r.choices or ())) for r in records])
    return [r.graded(v.answer, v.correct, v.reason) for r, v in zip(records, verdicts, strict=True)]


def check_same_data(file: RecordFile, questions: dict[str, Question], prompts: dict[str, tuple[int, ...]]) -> None:
    """Raises where earlier records answer other questions under the same ids: the data or the template has changed."""
    for record in file.records:
        question = questions.get(record.question_id)
        if question is None:
            continue
        asked = (question.text, question.gold, list(question.choices), list(prompts[question.id]))
        if asked != (record.question, record.gold, record.choices or [], record.prompt_ids):
            raise ThinkEditError(
                f"The data has changed: question {record.question_id} reads differently from the one that was answered in "
                f"{file.path}.\nUse another run directory (--out) for the new data."
            )
