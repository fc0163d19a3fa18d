"""Step 3, steering: several strengths over all layers, or each layer alone, with one load of the model."""

from collections.abc import Sequence
from pathlib import Path

from thinkedit.direction_quality import warning
from thinkedit.directions import Direction, check_fits, load_direction
from thinkedit.engines.base import Control, Treatment
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.generation import Inquiry, Label
from thinkedit.pipeline.defaults import HARD_STEERING_TOKENS, SCAN_ALPHAS
from thinkedit.pipeline.generate import slug, source_of
from thinkedit.pipeline.run import Run
from thinkedit.records import Record
from thinkedit.steering import parse_layers, scan, sweep
from thinkedit.tasks import get_task, load_questions
from thinkedit.tasks.selection import Selection


def steer(
    run: Run,
    controls: Sequence[Control] = ("attn", "mlp"),
    alphas: Sequence[float] | None = None,
    layers: str = "all",
    dataset: str | None = None,
    split: str | None = None,
    limit: Selection | None = None,
    max_tokens: int | None = None,
    direction: Path | None = None,
    columns: dict[str, str] | None = None,
) -> list[Record]:
    """Answers the questions under every setting into `steer/`; gives all records. `layers` "each" is the layer scan."""
    run.machine.check_able("steering")
    defaults = run.defaults
    chosen, each = parse_layers(layers, run.shape.layers)
    alphas = tuple(alphas) if alphas else (SCAN_ALPHAS if each else defaults.alphas)
    dataset = dataset or defaults.steer_dataset
    split = split or (defaults.steer_split if dataset == defaults.steer_dataset else None)
    limit = limit or (defaults.scan_limit if each else defaults.steer_limit)
    task = get_task(dataset, columns)
    hard = task.name.startswith("MATH") and run.defaults.steer_tokens < HARD_STEERING_TOKENS
    max_tokens = max_tokens or (HARD_STEERING_TOKENS if hard else defaults.steer_tokens)
    run.check_asking()
    questions = load_questions(dataset, split, run.options.data_dir, limit, columns)
    directions = {control: find_direction(run, control, direction) for control in controls}
    settings = [
        setting
        for control in controls
        for setting in (scan(control, alphas, chosen) if each else sweep(control, alphas, chosen, run.shape.layers))
    ]
    responder = run.responder(run.engine("steering"), max_tokens, defaults.forced_tokens)
    inquiries = []
    for setting in settings:
        file = run.record_file(
            "steer",
            f"{slug(task.name)}-{setting.name}",
            max_tokens,
            defaults.forced_tokens,
            task.name,
            source=source_of(dataset, split),
            direction=directions[setting.control].fingerprint,
            control=setting.control,
            alpha=setting.alpha,
            layers=setting.layers,
        )
        label = Label(run.source.name, setting.control, setting.alpha, setting.layer)
        treatment = Treatment(setting.biases(directions[setting.control]))
        inquiries.append(Inquiry(task, questions, 1, label, file, treatment))
    title = f"{'layer scan' if each else 'steering'}: {task.name}, {len(settings)} settings"
    with run.progress.work(title, len(settings) * len(questions), "response") as advance:
        answered = responder.answer_all(inquiries, advance)
    files = {
        f"{task.name}|{setting.name}": run.file_entry(inquiry.file, made, 1)
        for setting, inquiry, made in zip(settings, inquiries, answered, strict=True)
    }
    records = [record for made in answered for record in made]
    asked = {"dataset": dataset, "split": split, "limit": limit, "layers": layers, "max_tokens": max_tokens}
    hashes = {control: found.fingerprint for control, found in directions.items()}
    shared = [asked, run.shaping(), str(direction)]
    settings_made = {**asked, "alphas": list(alphas), "controls": list(controls), "directions": hashes}
    run.manifest.note_files("scan" if each else "steer", settings_made, shared, files)
    return records


def find_direction(run: Run, control: Control, path: Path | None = None) -> Direction:
    """The direction of this run, or the one that `path` holds; checked against the model."""
    if path is None:
        run.manifest.needs("extract")
    found = load_direction(path or run.directory / f"direction-{control}.safetensors", control)
    if found.control != control:
        raise UsageError(f"{path} is an {found.control} direction, but --control {control} is asked for.")
    check_fits(found, run.shape.layers, run.shape.hidden, run.fingerprint, run.source.name)
    if not found.vectors.any():
        raise ThinkEditError(f"The {control} direction has length zero in every layer: it points nowhere. Extract another one.")
    if doubt := warning(found.about, control):
        run.progress.say(doubt)
    return found
