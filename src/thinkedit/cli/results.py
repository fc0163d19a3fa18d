"""The commands that measure and report: evaluate and analyze."""

from typing import Annotated

from thinkedit.cli.common import command
from thinkedit.cli.options import Columns, Datasets, Limit, MaxTokens, Split, option, parse_columns
from thinkedit.cli.summaries import show_evaluation
from thinkedit.cli.terminal import heading, next_steps
from thinkedit.pipeline.run import Run


@command(
    "evaluate",
    "thinkedit evaluate --n-samples 4 --limit 100",
    "thinkedit evaluate --n-heads 1 2 3 --strength 0.5 1 --placebos 0",
    "thinkedit evaluate --model deepseek-qwen-1.5b --dataset gsm8k MATH-500 --n-samples 10",
)
def evaluate_command(
    run: Run,
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
    from thinkedit.pipeline.analyze import as_counted
    from thinkedit.pipeline.evaluate import evaluate
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
    show_evaluation(summarise(Evidence(run.source.name, evaluation=as_counted(run, result))))
    next_steps(("the report", run.command("analyze")))


@command("analyze", "thinkedit analyze", "thinkedit analyze --out runs/tiny")
def analyze_command(run: Run) -> None:
    """Step 7, the analysis: tables, pictures and one page out of everything that this run has measured."""
    from thinkedit.pipeline.analyze import analyze

    heading(f"Report on {run.source.name}")
    show_evaluation(analyze(run))
    next_steps(("the page", str(run.directory / "report" / "index.html")), ("all figures", str(run.directory / "summary.json")))
