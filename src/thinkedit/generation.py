"""Questions in, records out: asks an engine, finds the thoughts, forces answers where a thought was cut, grades, writes."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from thinkedit.chat import Chat
from thinkedit.engines.base import Completion, Engine, Request, Sampling, request_seed
from thinkedit.errors import ThinkEditError
from thinkedit.grading import Grader
from thinkedit.progress import Advance
from thinkedit.records import Record, RecordFile
from thinkedit.tasks.base import Question, Task

PORTION = 512  # requests after which cut thoughts get their forced answers and are written
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


class Responder:
    """Asks questions of one model. `forced_tokens` 0 leaves truncated thoughts without an answer."""

    def __init__(
        self,
        engine: Engine,
        chat: Chat,
        grader: Grader,
        sampling: Sampling,
        seed: int,
        forced_tokens: int,
        context: int | None,
    ) -> None:
        self.engine, self.chat, self.grader, self.sampling = engine, chat, grader, sampling
        self.seed, self.forced_tokens, self.context = seed, forced_tokens, context or 1 << 30
        self._prompts: dict[str, tuple[int, ...]] = {}

    def answer(
        self, task: Task, questions: Sequence[Question], samples: int, label: Label, file: RecordFile, advance: Advance
    ) -> list[Record]:
        """Adds to `file` what it lacks of `samples` answers to each question; gives the records asked for."""
        known = {question.id: question for question in questions}
        prompts = {question.id: self._prompt(task, question) for question in questions}
        check_same_data(file, known, prompts)
        done = {record.key for record in file.records}
        jobs = [(q, s) for s in range(samples) for q in questions if (q.id, s) not in done]
        advance(samples * len(questions) - len(jobs))
        writer = _Writer(file, self.grader, self.chat, advance)
        for start in range(0, len(jobs), PORTION):
            requests = [
                Request((q.id, s), prompts[q.id], request_seed(self.seed, task.name, q.id, s))
                for q, s in jobs[start : start + PORTION]
            ]
            seeds = {request.key: request.seed for request in requests}
            cut: list[Record] = []
            for completion in self.engine.generate(requests, self.sampling):
                question_id, sample = completion.key
                seed, prompt = seeds[completion.key], prompts[question_id]
                made = self._record(task, known[question_id], sample, seed, prompt, completion, label)
                if made.status == "truncated" and self.forced_tokens:
                    cut.append(made)
                else:
                    writer.add(made)
            for made in self._force(cut):
                writer.add(made)
        writer.flush()
        return [r for r in file.records if r.question_id in known and r.sample < samples]

    def _prompt(self, task: Task, question: Question) -> tuple[int, ...]:
        text = task.ask(question)
        if text not in self._prompts:
            self._prompts[text] = tuple(self.chat.prompt_ids(text))
        return self._prompts[text]

    def _record(
        self,
        task: Task,
        question: Question,
        sample: int,
        seed: int,
        prompt: Sequence[int],
        done: Completion,
        label: Label,
    ) -> Record:
        thought = self.chat.thought(prompt, done.token_ids, at_cap=done.finish_reason == "length")
        return Record(
            task=task.name,
            question_id=question.id,
            question=question.text,
            gold=question.gold,
            sample=sample,
            seed=seed,
            prompt_ids=list(prompt),
            token_ids=done.token_ids,
            text=self.chat.decode(done.token_ids),
            thinking_tokens=thought.tokens,
            status=thought.status,
            finish_reason=done.finish_reason,
            form=question.form,
            choices=list(question.choices) or None,
            group=question.group,
            model=label.model,
            control=label.control,
            alpha=label.alpha,
            layer=label.layer,
            edit=label.edit,
        )

    def _force(self, records: Sequence[Record]) -> Iterable[Record]:
        """Closes truncated thoughts by hand and lets the model state its answer."""
        if not records:
            return
        suffix, cue = self.chat.forced_suffix()
        by_key = {record.key: record for record in records}
        requests = []
        for record in records:
            room = self.context - len(record.prompt_ids) - len(suffix) - self.forced_tokens
            if room <= 0:
                yield record  # the context has no room for an answer
                continue
            thought = record.token_ids[:room]
            prompt = (*record.prompt_ids, *thought, *suffix)
            requests.append(Request(record.key, prompt, request_seed(record.seed, "forced answer", *record.key)))
        for completion in self.engine.generate(requests, replace(self.sampling, max_tokens=self.forced_tokens)):
            yield replace(by_key[completion.key], forced=cue + self.chat.decode(completion.token_ids))


class _Writer:
    """Grades and writes records in small groups, so that a kill loses next to nothing."""

    def __init__(self, file: RecordFile, grader: Grader, chat: Chat, advance: Advance) -> None:
        self.file, self.grader, self.chat, self.advance = file, grader, chat, advance
        self.waiting: list[Record] = []
        self.last = time.monotonic()

    def add(self, record: Record) -> None:
        self.waiting.append(record)
        if len(self.waiting) >= WRITE_EVERY or time.monotonic() - self.last > WRITE_SECONDS:
            self.flush()

    def flush(self) -> None:
        self.file.append(grade(self.waiting, self.grader, self.chat.think_tags[1]))
        self.advance(len(self.waiting))
        self.waiting, self.last = [], time.monotonic()


def answer_text(record: Record, closing: str = "</think>") -> str:
    """What a record says outside of its thought; only this is graded."""
    if record.status == "closed":
        before, tag, after = record.text.partition(closing)
        return after if tag else before
    if record.status == "absent":
        return record.text
    return record.forced or ""


def grade(records: Sequence[Record], grader: Grader, closing: str = "</think>") -> list[Record]:
    verdicts = grader.grade([(answer_text(r, closing), r.gold, r.form, tuple(r.choices or ())) for r in records])
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
