"""Step 7, the analysis: gathers what a run, or several, have measured and writes the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkedit.errors import ThinkEditError
from thinkedit.files import exclusive, write_json
from thinkedit.pipeline.card import refresh_cards
from thinkedit.pipeline.documents import read_manifest
from thinkedit.pipeline.gather import gather, is_evidence
from thinkedit.progress import Progress, Silent
from thinkedit.report.write import write_joint_report, write_report

if TYPE_CHECKING:
    from thinkedit.pipeline.run import Run

PAGE = "report/index.html"


def analyze(run: "Run", published: bool = False) -> dict[str, Any]:
    """Writes `summary.json`, `report/` and the figures in the model card of an open run; gives the summary."""
    if not run.manifest.steps:
        raise ThinkEditError(f"{run.directory} holds no results yet; first run: {run.command('run')}")
    with run.progress.work("report", 1, "page") as advance:
        summary = write_report(gather(run.directory, run.options.published_quirks), run.directory, published)
        refresh_cards(run.directory)
        advance(1)
    run.manifest.note("analyze", {}, page=PAGE)
    return summary


def analyze_directory(
    directory: Path,
    out: Path | None = None,
    published: bool = False,
    quirks: bool = False,
    samples: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The same for a directory alone, a run's or an imported one, without its model. `out` (default: the directory
    itself) is where the report goes; `samples` adds lm-eval's samples files. It is not among the commands that made the
    run: asking for a report again changes none of its figures."""
    if not is_evidence(directory) or not read_manifest(directory)["steps"]:
        raise ThinkEditError(f"{directory} holds no results yet; first run: thinkedit run --out {directory}")
    with exclusive(directory), (progress or Silent()).work("report", 1, "page") as advance:
        summary = write_report(gather(directory, quirks), out or directory, published, samples)
        manifest = read_manifest(directory)
        if out is None:
            refresh_cards(directory)
            manifest["steps"]["analyze"] = {"settings": {}, "page": PAGE}
            write_json(directory / "run.json", manifest)
        advance(1)
    return summary


def analyze_several(
    directories: Sequence[Path],
    out: Path,
    published: bool = False,
    quirks: bool = False,
    progress: Progress | None = None,
    command_line: str | None = None,
) -> dict[str, Any]:
    """One report over several directories of evidence, into `out`; each model keeps its own verdict."""
    if is_evidence(out) and out.resolve() not in {path.resolve() for path in directories}:
        raise ThinkEditError(f"{out} is a run of its own; the joint report needs another --out.")
    if is_evidence(out):
        raise ThinkEditError(f"{out} is one of the runs; the joint report would replace its own. Give another --out.")
    with (progress or Silent()).work("report", len(directories) + 1, "part") as advance:
        evidence = {}
        for name, directory in zip(_names(directories), directories, strict=True):
            evidence[name] = gather(directory, quirks)
            advance(1)
        summary = write_joint_report(evidence, out, published, [command_line] if command_line else [])
        advance(1)
    return summary


def _names(directories: Sequence[Path]) -> list[str]:
    """The models' names, with their directory where two have the same."""
    models = [read_manifest(directory)["model"] for directory in directories]
    return [f"{m} ({d})" if models.count(m) > 1 else m for m, d in zip(models, directories, strict=True)]
