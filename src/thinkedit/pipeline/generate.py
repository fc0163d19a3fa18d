"""Step 1, the probe: one response to each of many training questions."""

from pathlib import Path

from thinkedit.generation import Label
from thinkedit.pipeline.run import Run
from thinkedit.records import Record
from thinkedit.tasks import get_task, load_questions


def generate(
    run: Run,
    dataset: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    max_tokens: int | None = None,
    columns: dict[str, str] | None = None,
) -> list[Record]:
    """Samples one response a question into `probe/`; gives all of them. A second call continues the first."""
    defaults = run.defaults
    dataset = dataset or defaults.probe_dataset
    split = split or (defaults.probe_split if dataset == defaults.probe_dataset else None)
    limit, max_tokens = limit or defaults.probe_limit, max_tokens or defaults.probe_tokens
    task = get_task(dataset, columns)
    run.check_asking()
    questions = load_questions(dataset, split, run.options.data_dir, limit, columns)
    file = run.record_file("probe", slug(task.name), max_tokens, 0, task.name)
    responder = run.responder(max_tokens, forced_tokens=0)
    with run.progress.work(f"probe: {task.name}", len(questions), "response") as advance:
        records = responder.answer(task, questions, 1, Label(run.source.name), file, advance)
    settings = {"dataset": dataset, "split": split, "limit": limit, "max_tokens": max_tokens}
    run.note("generate", settings, file=run.relative(file.path), questions=len(questions))
    return records


def slug(name: str) -> str:
    """A task's name as part of a file name."""
    return Path(name).stem if Path(name).suffix else name
