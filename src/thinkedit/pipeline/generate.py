"""Step 1, the probe: one response to each of many training questions."""

import os
from pathlib import Path

from thinkedit.generation import Label
from thinkedit.pipeline.run import Run
from thinkedit.records import Record
from thinkedit.tasks import get_task, load_questions
from thinkedit.tasks.selection import Selection


def generate(
    run: Run,
    dataset: str | None = None,
    split: str | None = None,
    limit: Selection | None = None,
    max_tokens: int | None = None,
    columns: dict[str, str] | None = None,
) -> list[Record]:
    """Samples one response a question into `probe/`; gives all of them. A second call continues the first."""
    defaults = run.defaults
    dataset = dataset or defaults.probe_dataset
    limit, max_tokens = limit or defaults.probe_limit, max_tokens or defaults.probe_tokens
    task = get_task(dataset, columns)
    split = split or ("train" if "train" in task.splits else task.default_split)
    run.check_asking()
    questions = load_questions(dataset, split, run.options.data_dir, limit, columns)
    file = run.record_file("probe", slug(task.name), max_tokens, 0, task.name, source=source_of(dataset, split))
    responder = run.responder(run.engine(), max_tokens, forced_tokens=0)
    with run.progress.work(f"probe: {task.name}", len(questions), "response") as advance:
        records = responder.answer(task, questions, 1, Label(run.source.name), file, advance)
    settings = {"dataset": dataset, "split": split, "limit": limit, "max_tokens": max_tokens}
    entry = run.file_entry(file, records, 1)
    run.manifest.note("generate", settings, file=entry, identity=[entry, len(questions)])
    return records


def source_of(dataset: str, split: str | None) -> list[str | None]:
    """What tells the questions of two tasks of one name apart: the split, and where a local file lies."""
    return [str(Path(dataset).resolve()) if os.path.isfile(dataset) else None, split]


def slug(name: str) -> str:
    """A task's name as part of a file name."""
    return Path(name).stem if Path(name).suffix else name
