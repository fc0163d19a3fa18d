"""Accuracies that the ThinkEdit paper (arXiv 2503.22048) reports, in percent, to print beside one's own.

Ten samples a question. Per model: dataset -> (base, edited).
"""

DATASETS = ("gsm8k", "mmlu_elementary_math", "MATH-level1", "MATH-level5", "MATH-500")

_ACCURACIES = {
    "deepseek-qwen-1.5b": ((79.15, 84.56), (68.52, 90.66), (93.00, 93.66), (75.48, 75.05), (82.22, 82.24)),
    "deepseek-llama3-8b": ((82.26, 89.44), (96.01, 96.19), (93.46, 94.44), (85.49, 86.49), (87.26, 88.06)),
    "deepseek-qwen-14b": ((90.80, 93.78), (95.08, 96.56), (96.32, 96.38), (90.25, 91.03), (91.48, 91.92)),
    "deepseek-qwen-32b": ((92.97, 95.25), (95.93, 98.02), (96.41, 96.02), (91.27, 91.31), (91.62, 91.60)),
}

_HUB_NAMES = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": "deepseek-qwen-1.5b",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": "deepseek-llama3-8b",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": "deepseek-qwen-14b",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": "deepseek-qwen-32b",
}


def published_accuracy(model: str, task: str, edited: bool) -> float | None:
    """The paper's accuracy in percent, None where it has none. `model` is a short name or a hub id."""
    name = _HUB_NAMES.get(model, model).removeprefix("cesun/").removeprefix("ThinkEdit-")
    if name not in _ACCURACIES or task not in DATASETS:
        return None
    return _ACCURACIES[name][DATASETS.index(task)][int(edited)]
