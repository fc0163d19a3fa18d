"""Files as others write them, made up: the published project's archive and lm-eval's output."""

import json
from pathlib import Path

import numpy as np
import torch

MODEL = "deepseek-qwen-1.5b"
CUE = "\n</think>\n\nYeah, I think that's right.\n\n**Final Answer**\n"
CAP = 16384
QUESTIONS = 40


def dump(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def response(place: int, right: bool, length: int) -> str:
    """What the published scripts saved: a thought opened by the model, forced to an answer where it was cut."""
    answer = f"\\boxed{{{place if right else place + 1}}}"
    if length == -1:
        return f"The answer is {answer}."
    if length >= CAP:
        return f"<think>\nlet me see again{CUE}{answer}"
    return f"<think>\nit is \\boxed{{{place + 7}}} or so\n</think>\n\nThe answer is {answer}.<｜end▁of▁sentence｜>"


def evaluation(accuracy: float, mean: float, seed: int, samples: int = 10, texts: bool = True) -> dict:
    """sample_results as the published project holds them, golds as strings; one thought cut and one absent in each run."""
    generator = np.random.default_rng(seed)
    runs = []
    for _ in range(samples):
        right = (generator.random(QUESTIONS) < accuracy).astype(int).tolist()
        lengths = generator.integers(20, int(2 * mean), QUESTIONS).tolist()
        lengths[0], lengths[1] = CAP, -1
        run = {"accuracy": float(np.mean(right)), "avg_thinking_length": float(np.mean(lengths)), "think_lengths": lengths}
        run |= {"correctness": right, "predicted": [str(k if r else k + 1) for k, r in enumerate(right)]}
        if texts:
            run["response_texts"] = [response(k, bool(r), n) for k, (r, n) in enumerate(zip(right, lengths, strict=True))]
        runs.append(run)
    return {
        "sample_results": runs,
        "answers": [str(k) for k in range(QUESTIONS)],
        "aggregate_stats": {"accuracy": 0.5},
        "instruction": "",
    }


def steering(alpha: float, questions: int = 30) -> dict:
    """Texts are decoded with their prompt; what had no thought at all is missing from responses and correctness."""
    lengths = [int(100 * (1 + alpha)) + k for k in range(questions)]
    lengths[3] = -1
    kept = [k for k in range(questions) if lengths[k] != -1]
    begin = "<｜begin▁of▁sentence｜><｜User｜>question {}?<｜Assistant｜>"
    texts = [begin.format(k) + response(k, k % 2 == 0, lengths[k]) for k in kept]
    right = [int(k % 2 == 0) for k in kept]
    return {"responses": texts, "think_lengths": lengths, "avg_thinking_length": 1.0, "correctness": right, "accuracy": 0.5}


def probe(questions: int = 20) -> list[dict]:
    rows = []
    for k in range(questions):
        text = response(k, True, 50 + k) if k else "<think>\nnever ends"
        thinking = text[: text.find("</think>") + 8] if k else ""
        rows.append(
            {"question": f"question {k}?", "response": text, "thinking": thinking, "thinking_length": 50 + k if k else -1}
        )
    return rows


def archive(root: Path, models: tuple[str, ...] = (MODEL,), tasks: tuple[str, ...] = ("gsm8k", "MATH-500")) -> Path:
    """The published archive unpacked, with pictures, a read-me and a pointer among the files."""
    for number, model in enumerate(models):
        dump(root / "responses" / f"{model}_gsm8k.json", probe())
        for task in tasks:
            for name, accuracy, mean in ((model, 0.6, 300), (f"ThinkEdit-{model}", 0.8, 420)):
                folder = root / "ThinkEdit_model_evaluation_results" / task / name / "instruction_"
                dump(folder / "results_samples10.json", evaluation(accuracy, mean, number + 10 * (mean > 300)))
        for control in ("attn", "mlp"):
            for alpha in (-0.08, 0.0, 0.08):
                whole = root / f"gsm8k_all_layer_thinking_length_steering_results/thinking_length_{control}/{model}"
                dump(whole / f"{alpha}.json", steering(alpha))
            for layer in (0, 1):
                for alpha in (-1.0, 1.0):
                    single = root / f"gsm8k_layerwise_thinking_length_steering_results/thinking_length_{control}/{model}"
                    dump(single / f"{layer}_{alpha}.json", steering(alpha))
            (root / "directions").mkdir(exist_ok=True)
            torch.save(
                torch.ones(2, 1, 8, dtype=torch.bfloat16),
                root / "directions" / f"{model}_thinking_length_direction_gsm8k_{control}.pt",
            )
    (root / "README.md").write_text("read me")
    dump(root / "package.json", {"name": "else"})
    (root / "pointer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    return root


def lm_eval(root: Path, accuracy: float = 0.5, model: str = "cesun/ThinkEdit-deepseek-qwen-1.5b", count: int = 30) -> Path:
    """lm-eval's output for gsm8k with two filters, thoughts opened by the template."""
    folder = root / model.replace("/", "__")
    stamp = "2026-01-02T03-04-05.678901"
    dump(
        folder / f"results_{stamp}.json", {"results": {}, "model_name": model, "config": {"model_args": f"pretrained={model}"}}
    )
    rows = []
    for k in range(count):
        right = k < accuracy * count
        said = f"thinking of {k + 9}\n</think>\n\nIt is \\boxed{{{k if right else k + 1}}}."
        for name, value in (("strict-match", 0.0), ("flexible-extract", float(right))):
            doc = {"question": f"question {k}?", "answer": f"so\n#### {k:,}"}
            rows.append(
                {"doc_id": k, "doc": doc, "target": doc["answer"], "arguments": {"gen_args_0": {"arg_0": "prompt"}},
                 "resps": [[said]], "filtered_resps": [str(k)], "filter": name, "metrics": ["exact_match"],
                 "exact_match": value, "doc_hash": "x"}
            )  # fmt: skip
    path = folder / f"samples_gsm8k_{stamp}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
