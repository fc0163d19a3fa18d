"""What every step does where nothing is said: the paper's settings for real models, small ones for the embedded model."""

from dataclasses import dataclass

from thinkedit.models import TINY

PAPER_ALPHAS = tuple(round(-0.08 + 0.01 * i, 2) for i in range(17))
SCAN_ALPHAS = (-1.0, 1.0)
PAPER_BENCHMARKS = ("gsm8k", "mmlu_elementary_math", "MATH-level1", "MATH-level5", "MATH-500")


@dataclass(frozen=True, slots=True)
class Defaults:
    """Caps (`*_tokens`) are sampled tokens a response; `*_limit` questions; `placebos` draws of each kind."""

    probe_dataset: str = "gsm8k"
    probe_split: str = "train"
    probe_limit: int = 2000
    probe_tokens: int = 4096
    steer_dataset: str = "gsm8k"
    steer_split: str = "test"
    steer_limit: int = 200
    steer_tokens: int = 8192
    alphas: tuple[float, ...] = PAPER_ALPHAS
    scan_limit: int = 100
    evaluate_datasets: tuple[str, ...] = PAPER_BENCHMARKS
    evaluate_split: str | None = None
    evaluate_limit: int | None = None
    evaluate_tokens: int = 16384
    samples: int = 10
    forced_tokens: int = 256
    placebos: int = 1


REAL = Defaults()
EMBEDDED = Defaults(
    probe_dataset=TINY,
    probe_tokens=256,
    steer_dataset=TINY,
    steer_split="dev",
    steer_tokens=256,
    alphas=(-0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3),
    evaluate_datasets=(TINY,),
    evaluate_split="dev",
    evaluate_limit=200,
    evaluate_tokens=256,
    samples=2,
    forced_tokens=32,
    placebos=3,
)
HARD_STEERING_TOKENS = 16384  # cap for steering on MATH, whose thoughts are longer


def defaults_for(model: str) -> Defaults:
    return EMBEDDED if model == TINY else REAL
