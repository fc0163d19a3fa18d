"""The commands that measure and report: evaluate, analyze, regrade and import."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkedit.cli.common import command, command_line, standalone
from thinkedit.cli.options import Columns, Datasets, Limit, MaxTokens, Split, one, option, parse_columns
from thinkedit.cli.summaries import show_evaluation, show_imported, show_joint, show_regraded
from thinkedit.cli.terminal import Terminal, heading, next_steps
from thinkedit.errors import UsageError

if TYPE_CHECKING:
    from thinkedit.pipeline.run import Run


@command(
    "evaluate",
    "thinkedit evaluate --n-samples 4 --limit 100",
    "thinkedit evaluate --n-heads 1 2 3 --strength 0.5 1 --placebos 0",
    "thinkedit evaluate --model deepseek-qwen-1.5b --dataset gsm8k MATH-500 --n-samples 10",
)
def evaluate_command(
    run: "Run",
    dataset: Datasets = None,
    split: Split = None,
    n_samples: Annotated[int | None, option("--n-samples", min=1, help="Answers a question.")] = None,
    limit: Limit = None,
    max_tokens: MaxTokens = None,
    n_heads: Annotated[list[int] | None, option("--n-heads", help="Doses besides the edit: numbers of heads.")] = None,
    strength: Annotated[list[float] | None, option("--strength", help="Doses besides the edit: strengths.")] = None,
    placebos: Annotated[int | None, option("--placebos", min=0, help="Draws of each of the two placebos.")] = None,
    base_only: Annotated[bool, option("--base-only", help="The base model alone, without an edit.")] = False,
    columns: Columns = None,
) -> None:
    """Step 6, the evaluation: n answers to each question by the base, the edited model and its placebos, in one load."""
    from thinkedit.pipeline.evaluate import evaluate
    from thinkedit.pipeline.gather import as_counted
    from thinkedit.report import Evidence
    from thinkedit.report.summary import summarise

    heading(f"Evaluating {run.source.name}")
    result = evaluate(
        run,
        dataset,
        split,
        n_samples,
        limit,
        max_tokens,
        placebos,
        n_heads or (),
        strength or (),
        base_only,
        parse_columns(columns),
    )
    show_evaluation(summarise(Evidence(run.source.name, evaluation=as_counted(run.options.published_quirks, result))))
    next_steps(("the report", run.command("analyze")))


@standalone(
    "analyze",
    "thinkedit analyze",
    "thinkedit analyze --out runs/tiny",
    "thinkedit analyze runs/deepseek-qwen-1.5b runs/deepseek-llama3-8b --published",
    "thinkedit analyze imported --out comparison",
)
def analyze_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Runs or imported evidence; several make one joint report.", show_default=False),
    ] = None,
    model: Annotated[str | None, option("--model", help="The run of this model in runs/ (default: tiny).")] = None,
    out: Annotated[
        Path | None, option("--out", help="Where the report goes (default: the run itself; analysis/ for several).")
    ] = None,
    published: Annotated[bool, option("--published", help="Show the paper's own figures beside.")] = False,
    lm_eval: Annotated[bool, option("--lm-eval", help="Write lm-eval's samples files too (they repeat every text).")] = False,
    published_quirks: Annotated[bool, option("--published-quirks", help="Count lengths as the published scripts do.")] = False,
) -> None:
    """Step 7, the analysis: tables, pictures and one page out of everything that a run, or several, have measured."""
    from thinkedit.pipeline.analyze import analyze_directory, analyze_several
    from thinkedit.pipeline.gather import find_evidence, is_evidence

    chosen = find_evidence(paths) if paths else [run_directory(model, out)]
    if len(chosen) > 1:
        target = out or Path("analysis")
        heading(f"Report on {len(chosen)} models")
        summary = analyze_several(chosen, target, published, published_quirks, Terminal(), command_line())
        show_joint(summary, published)
    else:
        target = (out if paths else None) or chosen[0]
        if target.resolve() != chosen[0].resolve() and is_evidence(target):
            raise UsageError(f"{target} is another run; give --out a directory of its own.")
        heading(f"Report on {chosen[0]}")
        own = None if target.resolve() == chosen[0].resolve() else target
        summary = analyze_directory(chosen[0], own, published, published_quirks, lm_eval, Terminal())
        show_evaluation(summary, published)
    next_steps(("the page", str(target / "report" / "index.html")), ("all figures", str(target / "summary.json")))


@standalone(
    "regrade",
    "thinkedit regrade",
    "thinkedit regrade runs/deepseek-qwen-1.5b --dry-run",
    "thinkedit regrade imported/deepseek-qwen-1.5b",
)
def regrade_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Runs, imported evidence or record files (default: the run).", show_default=False),
    ] = None,
    model: Annotated[str | None, option("--model", help="The run of this model in runs/ (default: tiny).")] = None,
    out: Annotated[Path | None, option("--out", help="The run directory, where no paths are given.")] = None,
    dry_run: Annotated[bool, option("--dry-run", help="Only say what would change.")] = False,
    timeout: Annotated[float, option("--timeout", help="Processor seconds that one comparison may take (default 5).")] = 5.0,
    published_quirks: Annotated[bool, option("--published-quirks", help="Grade by the published rules.")] = False,
) -> None:
    """Grades saved answers again, without generating anything; shows which verdicts change."""
    from thinkedit.grading import Grader
    from thinkedit.pipeline.regrade import regrade

    if timeout <= 0:
        raise UsageError(f"--timeout must be more than 0 seconds, not {timeout:g}.")
    chosen = list(paths) if paths else [run_directory(model, out)]
    heading(f"Grading {', '.join(map(str, chosen))} again")
    with Grader(timeout=timeout, lenient=published_quirks) as grader:
        result = regrade(chosen, grader, dry_run, Terminal())
    show_regraded(result, dry_run)
    if not dry_run and result.changed:
        next_steps(("the report anew", shlex.join(["thinkedit", "analyze", *map(str, chosen)])))


@standalone(
    "import",
    "thinkedit import ThinkEdit/",
    "thinkedit import results_samples10.json --label edited --model my-model",
    "thinkedit import lm_eval_out/my-model/samples_gsm8k_2026-01-01T00-00-00.jsonl --out imported/mine",
    "thinkedit import responses.jsonl --dataset gsm8k --tokenizer deepseek-qwen-1.5b",
)
def import_command(
    paths: Annotated[list[Path], typer.Argument(help="Files of others, or folders of them.", show_default=False)],
    out: Annotated[Path | None, option("--out", help="Where it goes (default: imported/<model>).")] = None,
    model: Annotated[str | None, option("--model", help="The base model's name, where the files do not say it.")] = None,
    label: Annotated[str | None, option("--label", help="Which arm the answers are: base, edited or any name.")] = None,
    dataset: Annotated[list[str] | None, option("--dataset", help="The benchmark, where the files do not say it.")] = None,
    tokenizer: Annotated[
        str | None, option("--tokenizer", help="Count thinking tokens with this model's tokenizer (default: as the file says).")
    ] = None,
    cap: Annotated[
        int | None, option("--cap", min=1, help="A thought of so many tokens was cut (default: the published).")
    ] = None,
    think_tags: Annotated[
        tuple[str, str] | None, option("--think-tags", metavar="OPEN CLOSE", help="Where thoughts are not in <think>.")
    ] = None,
    data_dir: Annotated[
        Path | None, option("--data-dir", help="The benchmarks' files, for questions and gold answers that are missing.")
    ] = None,
) -> None:
    """Reads answers that were made elsewhere, to analyze and regrade them: the published project's files, lm-eval's samples."""
    from thinkedit.pipeline.bring import Asked, bring

    heading(f"Importing {', '.join(map(str, paths))}")
    asked = Asked(model, label, one(dataset, "--dataset"), tokenizer, cap, think_tags, data_dir)
    result = bring(paths, out, asked, Terminal(), command_line())
    show_imported(result)
    where = [str(written.directory) for written in result.written]
    next_steps(
        ("report", shlex.join(["thinkedit", "analyze", *where])),
        ("grade again", shlex.join(["thinkedit", "regrade", *where])),
    )


def run_directory(model: str | None, out: Path | None) -> Path:
    """Where the run of a model is, without asking for the model itself."""
    from thinkedit.models import TINY, ModelSource

    return out or Path("runs") / ModelSource(model or TINY, Path()).slug
