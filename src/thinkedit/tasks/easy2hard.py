"""E2H-GSM8K: the test questions of GSM8K with a difficulty rating from the performance of many models.

Ding et al. 2024 (Easy2Hard-Bench), https://huggingface.co/datasets/furonghuang-lab/Easy2Hard-Bench (config E2H-GSM8K,
split eval). The rows come sorted as the hub serves them; the group is the third of the ratings that a question is in.

    question  $18 is shared among 3 boys. The eldest added $5 to his share and ... How much does he have now?
    answer    Each boy gets $18/3 = $<<18/3=6>>6. ... So, he now has $13*3=$<<13*3=39>>39.
              #### 39
    rating    0.23899065538041173
"""

from pathlib import Path

from thinkedit.errors import ThinkEditError
from thinkedit.tasks.base import Question, Task, step_by_step
from thinkedit.tasks.gsm8k import gold_number
from thinkedit.tasks.sources import Source

SOURCE = Source(
    "furonghuang-lab/Easy2Hard-Bench",
    ("E2H-GSM8K",),
    ("e2h_gsm8k_{split}.jsonl", "gsm8k_e2h_{split}.jsonl", "gsm8k-e2h/{split}", "E2H-GSM8K/{split}"),
    ("question", "answer", "rating"),
)
GROUPS = ("easy", "middle", "hard")


def load(split: str, data_dir: Path | None) -> list[Question]:
    rows = SOURCE.rows(split, data_dir)
    ranks = {index: rank for rank, index in enumerate(sorted(range(len(rows)), key=lambda i: float(rows[i]["rating"])))}
    questions = []
    for index, row in enumerate(rows):
        try:
            gold = gold_number(row["answer"])
        except ThinkEditError as error:
            raise ThinkEditError(f"gsm8k-e2h ({split}), row {index + 1}: {error}") from None
        group = GROUPS[ranks[index] * len(GROUPS) // len(rows)]
        questions.append(Question(f"gsm8k-e2h/{split}/{index}", row["question"].strip(), gold, "number", group=group))
    return questions


GSM8K_E2H = Task("gsm8k-e2h", ("eval",), "eval", load, step_by_step)
