"""Step 6, the evaluation: n answers to each question by the base, the edit, its doses and its placebos, in one load."""

from collections.abc import Sequence
from typing import Any

from thinkedit.edit import Edit, random_direction, random_heads
from thinkedit.engines.base import UNTREATED, Treatment
from thinkedit.errors import UsageError
from thinkedit.generation import Inquiry, Label
from thinkedit.pipeline.edit import build_edit, current_edit, edit_direction, edit_hash
from thinkedit.pipeline.generate import slug, source_of
from thinkedit.pipeline.run import Run
from thinkedit.pipeline.steer import find_direction
from thinkedit.records import Record
from thinkedit.tasks import get_task, load_questions
from thinkedit.tasks.selection import Selection

Arms = dict[str, Edit | None]


def evaluate(
    run: Run,
    datasets: Sequence[str] | None = None,
    split: str | None = None,
    samples: int | None = None,
    limit: Selection | None = None,
    max_tokens: int | None = None,
    placebos: int | None = None,
    n_heads: Sequence[int] = (),
    strengths: Sequence[float] = (),
    base_only: bool = False,
    columns: dict[str, str] | None = None,
) -> dict[str, dict[str, list[Record]]]:
    """Records by task and arm, kept in `evaluate/`. `n_heads` and `strengths` add doses to the edit of `edit.json`."""
    defaults = run.defaults
    datasets = tuple(datasets or defaults.evaluate_datasets)
    split = split or defaults.evaluate_split
    samples, limit = samples or defaults.samples, limit or defaults.evaluate_limit
    max_tokens = max_tokens or defaults.evaluate_tokens
    served = run.options.machine.served_edited
    if run.machine.engine_name == "openai":
        if n_heads or strengths or placebos:
            raise UsageError("A server has one edited model; doses and placebos need --engine vllm or transformers.")
        if not served and not base_only:
            run.progress.say("the server's model alone is evaluated, as the base; --served-edited NAME adds an edited one")
            base_only = True
        placebos = 0  # a server has no more than what it serves
    arms: Arms = {"base": None} if base_only else make_arms(run, n_heads, strengths, placebos)
    run.check_asking()
    edited = arms.get("edited")
    loaded = {name: load_questions(name, split, run.options.data_dir, limit, columns) for name in datasets}
    engine = run.engine("editing") if edited else run.engine()
    responder = run.responder(engine, max_tokens, defaults.forced_tokens)
    total = samples * len(arms) * sum(len(questions) for questions in loaded.values())
    inquiries: dict[tuple[str, str], Inquiry] = {}
    for arm, edit in arms.items():
        treatment = Treatment(edit=edit) if edit else UNTREATED
        for name, questions in loaded.items():
            task = get_task(name, columns)
            shaping = {"edit": edit_hash(edit) if edit else None, "source": source_of(name, split)}
            if edit and served:
                shaping["served"] = served
            file = run.record_file(
                "evaluate",
                f"{slug(task.name)}-{arm.replace(' ', '-')}",
                max_tokens,
                defaults.forced_tokens,
                task.name,
                **shaping,
            )
            label = Label(run.source.name, edit=None if edit is None else arm)
            inquiries[task.name, arm] = Inquiry(task, questions, samples, label, file, treatment)
    with run.progress.work(f"evaluation: {', '.join(loaded)}, {len(arms)} models", total, "response") as advance:
        answered = responder.answer_all(list(inquiries.values()), advance)
    result: dict[str, dict[str, list[Record]]] = {}
    files: dict[str, Any] = {}
    for ((name, arm), inquiry), records in zip(inquiries.items(), answered, strict=True):
        result.setdefault(name, {})[arm] = records
        files[f"{name}|{arm}"] = run.file_entry(inquiry.file, records, samples)
    settings = {
        "datasets": list(datasets),
        "split": split,
        "n_samples": samples,
        "limit": limit,
        "max_tokens": max_tokens,
    }
    shared = [split, limit, samples, max_tokens, run.shaping(), edit_hash(edited) if edited else None]
    run.manifest.note_files("evaluate", {**settings, "arms": list(arms)}, shared, files)
    return result


def make_arms(run: Run, n_heads: Sequence[int], strengths: Sequence[float], placebos: int | None) -> Arms:
    """The base, the edit, its doses, and `placebos` draws of each kind of placebo (None: as many as the defaults say)."""
    edit, path = current_edit(run), edit_direction(run)
    arms: Arms = {"base": None, "edited": edit}
    for strength in strengths or [1.0]:
        doses = [build_edit(run, None, count, strength, path) for count in n_heads]
        if strengths and not n_heads:
            doses = [build_edit(run, edit.heads, None, strength, path)]
        arms |= {f"edited n={len(dose.heads)} strength={strength:g}": dose for dose in doses}
    draws = run.defaults.placebos if placebos is None else placebos
    if draws < 0:
        raise UsageError(f"--placebos must be 0 or more, not {draws}.")
    if not draws:
        return arms
    direction = find_direction(run, "attn", path).vectors
    weights = {layer: run.o_proj_weight(layer) for layer in edit.layers}
    seed = run.options.seed
    for draw in range(draws):
        arms[f"random heads {draw}"] = random_heads(edit, direction, run.shape.layers, run.shape.heads, seed * 1000 + draw)
        arms[f"random direction {draw}"] = random_direction(edit, weights, seed * 1000 + draw)
    return arms
