r"""GSM8K: 8,792 grade-school word problems whose answers are numbers.

Cobbe et al. 2021, https://huggingface.co/datasets/openai/gsm8k (config main; train 7,473, test 1,319).

    question  A robe takes 2 bolts of blue fiber and half that much white fiber.  How many bolts in total does it take?
    answer    It takes 2/2=<<2/2=1>>1 bolt of white fiber
              So the total amount of fabric is 2+1=<<2+1=3>>3 bolts of fabric
              #### 3
"""

import re
from pathlib import Path

from thinkedit.errors import ThinkEditError
from thinkedit.tasks.base import Question, Task, step_by_step
from thinkedit.tasks.sources import Source

SOURCE = Source("openai/gsm8k", ("main",), ("gsm8k_{split}.jsonl", "gsm8k/{split}", "gsm8k_{split}"), ("question", "answer"))
GOLD = re.compile(r"####\s*(?P<sign>[-\u2212+]?)\s*\$?\s*(?P<sign_after>[-\u2212]?)(?P<number>\d[\d,]*(?:\.\d+)?|\.\d+)")


def gold_number(solution: str) -> str:
    """The number after the last `####`, without commas and `$`: `#### -$1,200.50` is `-1200.50`."""
    matches = list(GOLD.finditer(solution))
    if not matches:
        raise ThinkEditError(f"no number after ####: ...{solution[-60:]!r}")
    match = matches[-1]
    negative = {match["sign"], match["sign_after"]} & {"-", "\u2212"}
    return ("-" if negative else "") + match["number"].replace(",", "")


def load(split: str, data_dir: Path | None) -> list[Question]:
    questions = []
    for index, row in enumerate(SOURCE.rows(split, data_dir)):
        try:
            gold = gold_number(row["answer"])
        except ThinkEditError as error:
            raise ThinkEditError(f"gsm8k ({split}), row {index + 1}: {error}") from None
        questions.append(Question(f"gsm8k/{split}/{index}", row["question"].strip(), gold, "number"))
    return questions


GSM8K = Task("gsm8k", ("train", "test"), "test", load, step_by_step)
