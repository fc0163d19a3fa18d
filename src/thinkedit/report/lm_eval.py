"""The evaluation as lm-evaluation-harness writes its own, for whatever reads those files.

report/lm-eval/<model>__<arm>/results_<time>.json                 accuracies and thinking lengths with standard errors
report/lm-eval/<model>__<arm>/samples_<task>_<time>.jsonl         one line a question (where asked for)
"""

import json
from datetime import UTC, datetime
from hashlib import sha256
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from thinkedit.files import append_json_lines, whole_directory, write_json
from thinkedit.metrics import grid
from thinkedit.records import Record
from thinkedit.report.evidence import Evidence, placebo_kind
from thinkedit.report.summary import plain
from thinkedit.statistics import Array

METRIC, LENGTH = "exact_match", "thinking_tokens"
FILTER = "none"
VERSION = 1.0


def write_lm_eval(evidence: Evidence, directory: Path, samples: bool = False, now: datetime | None = None) -> list[Path]:
    """Writes a folder for the base and each edit, replacing those of an earlier report; gives the results files.

    A question's `exact_match` is the share of its samples that are right. `samples` adds the samples files, which repeat
    every text.
    """
    stamp = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H-%M-%S.%f")
    arms = list(dict.fromkeys(arm for part in evidence.evaluation.values() for arm in part if placebo_kind(arm) is None))
    if not arms:
        return []
    written = []
    with whole_directory(directory) as temporary:
        for arm in arms:
            tasks = {task: part[arm] for task, part in evidence.evaluation.items() if arm in part}
            folder = Path(_safe(f"{evidence.model.replace('/', '__')}__{arm}"))
            (temporary / folder).mkdir()
            name = f"results_{stamp}.json"
            value = results(evidence, arm, tasks) | {"date": (now or datetime.now(UTC)).timestamp()}
            write_json(temporary / folder / name, plain(value))
            written.append(directory / folder / name)
            for task, records in tasks.items() if samples else ():
                append_json_lines(temporary / folder / f"samples_{_safe(task)}_{stamp}.jsonl", sample_lines(records))
    return written


def results(evidence: Evidence, arm: str, tasks: dict[str, list[Record]]) -> dict[str, Any]:
    """The content of a results file for one arm."""
    figures, counts = {}, {}
    for task, records in tasks.items():
        found = grid(records)
        tokens, closed = found.length_sums
        lengths = np.divide(tokens, closed, out=np.full(len(tokens), np.nan), where=closed > 0)
        figures[task] = {
            "name": task,
            "alias": task,
            "sample_len": len(found.keys),
            **_figure(METRIC, found.question_accuracy),
            **_figure(LENGTH, lengths),
        }
        counts[task] = {"original": len(found.keys), "effective": len(found.keys)}
    settings: dict[str, Any] = evidence.settings.get("evaluate", {})
    return {
        "results": figures,
        "group_subtasks": {task: [] for task in tasks},
        "configs": {task: _config(task, records, settings) for task, records in tasks.items()},
        "versions": dict.fromkeys(tasks, VERSION),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {task: {METRIC: True, LENGTH: None} for task in tasks},
        "n-samples": counts,
        "config": {
            "model": "thinkedit",
            "model_args": f"pretrained={evidence.model}" + ("" if arm == "base" else f",edit={arm}"),
            "batch_size": None,
            "device": None,
            "limit": settings.get("limit"),
            "bootstrap_iters": 0,
            "gen_kwargs": {"max_gen_toks": settings.get("max_tokens")},
        },
        "task_hashes": {},
        "git_hash": None,
        "system_instruction": None,
        "chat_template": None,
        "model_source": "thinkedit",
        "model_name": evidence.model if arm == "base" else f"{evidence.model} ({arm})",
        "model_name_sanitized": _safe(f"{evidence.model.replace('/', '__')}__{arm}"),
        "thinkedit_version": evidence.settings.get("versions", {}).get("thinkedit"),
        "transformers_version": evidence.settings.get("versions", {}).get("transformers"),
    }


def sample_lines(records: list[Record]) -> list[dict[str, Any]]:
    """A line a question, its samples in order."""
    questions: dict[str, list[Record]] = {}
    for record in records:
        questions.setdefault(record.question_id, []).append(record)
    return [_line(place, sorted(part, key=lambda record: record.sample)) for place, part in enumerate(questions.values())]


def _line(place: int, records: list[Record]) -> dict[str, Any]:
    first = records[0]
    doc: dict[str, Any] = {"id": first.question_id, "question": first.question, "gold": first.gold}
    doc |= {"choices": first.choices} if first.choices else {}
    graded = [record.correct for record in records if record.correct is not None]
    return {
        "doc_id": place,
        "doc": doc,
        "target": first.gold,
        "arguments": {"gen_args_0": {"arg_0": first.question, "arg_1": {}}},
        "resps": [[record.text + (record.forced or "") for record in records]],
        "filtered_resps": [record.answer or "" for record in records],
        "filter": FILTER,
        "metrics": [METRIC],
        "doc_hash": _hash(json.dumps(doc, sort_keys=True)),
        "prompt_hash": _hash(first.question),
        "target_hash": _hash(first.gold),
        METRIC: sum(graded) / len(graded) if graded else None,
        LENGTH: [record.thinking_tokens for record in records],
        "status": [record.status for record in records],
    }


def _figure(name: str, values: Array) -> dict[str, Any]:
    kept = values[~np.isnan(values)]
    error = float(kept.std(ddof=1)) / sqrt(len(kept)) if len(kept) > 1 else "N/A"
    return {f"{name},{FILTER}": float(kept.mean()) if len(kept) else None, f"{name}_stderr,{FILTER}": error}


def _config(task: str, records: list[Record], settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": task,
        "dataset_path": task,
        "test_split": settings.get("split"),
        "output_type": "generate_until",
        "repeats": 1 + max((record.sample for record in records), default=0),
        "num_fewshot": 0,
        "metric_list": [{"metric": METRIC, "aggregation": "mean", "higher_is_better": True}],
        "generation_kwargs": {"max_gen_toks": settings.get("max_tokens"), "do_sample": True},
        "metadata": {"version": VERSION},
    }


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-._" else "_" for c in name)
