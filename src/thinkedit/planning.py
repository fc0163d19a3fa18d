"""What a run will need: GPUs, memory, disk and hours, by formulas whose assumptions are written down.

A step that samples answers costs either the arithmetic of its tokens or, where few rows are at work, the reading of the
weights and of the cache at every step of the batch; the larger of the two is taken. Biases, norms and the embedding's
look-up are left out, which is under 1 % of a model of a billion parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from thinkedit.config import Shape
from thinkedit.errors import UsageError
from thinkedit.pipeline.defaults import Defaults
from thinkedit.pipeline.machine import ROWS
from thinkedit.sizes import Sizes

QUESTIONS = {
    "gsm8k": 1319,
    "mmlu_elementary_math": 378,
    "MATH-500": 500,
    "MATH-level1": 437,
    "MATH-level5": 1324,
    "MATH-level5-140": 140,
    "gsm8k-e2h": 1319,
}
UNKNOWN_QUESTIONS = 1000  # of a benchmark of the user's own
GIGABYTE = 1e9
RECORD_TOKEN_BYTES = 12  # of a record's line, for each token: its id and its letters
RECORD_BYTES = 1500  # of a record beside its tokens: the question, prompt ids, verdict


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU: `memory` in bytes, peak `flops` a second in 16-bit numbers without sparsity, `bandwidth` in bytes a second."""

    memory: float
    flops: float
    bandwidth: float


CARDS = {  # a common card of each size of memory, by its data sheet; smallest first
    "T4": Device(16e9, 65e12, 0.32e12),
    "A10": Device(24e9, 125e12, 0.6e12),
    "A100 of 40 GB": Device(40e9, 312e12, 1.56e12),
    "L40S": Device(48e9, 362e12, 0.86e12),
    "A100": Device(80e9, 312e12, 2.0e12),
    "H200": Device(141e9, 989e12, 4.8e12),
    "B200": Device(180e9, 2250e12, 8.0e12),
}


def card_of(memory: float) -> str:
    """The largest of the cards that has no more than `memory` bytes, else the smallest of all."""
    return max((name for name in CARDS if CARDS[name].memory <= memory), key=lambda name: CARDS[name].memory, default="T4")


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the formulas take for granted; every one of them is printed with the plan."""

    usable_memory: float = 0.9  # share of a GPU that weights and cache may fill
    decoding: float = 0.35  # share of peak arithmetic or bandwidth that decoding reaches
    prefill: float = 0.5  # share of peak arithmetic that reading prompts and examples reaches
    tensor_parallel: float = 0.9  # of the speed that is left at every doubling of the tensor-parallel size
    pipeline_parallel: float = 0.85  # the same of the pipeline-parallel size
    thinking_tokens: int = 3000  # sampled tokens of an answer, on average
    prompt_tokens: int = 150
    examples: int = 500  # of the probe's responses that are short or long


@dataclass(frozen=True, slots=True)
class Layout:
    """How the GPUs are used: `replicas` engines with `tensor` x `pipeline` GPUs each, `rows` answers at a time in each."""

    tensor: int
    pipeline: int
    replicas: int
    rows: int
    cache_tokens: int

    @property
    def each(self) -> int:
        """GPUs of an engine."""
        return self.tensor * self.pipeline

    @property
    def gpus(self) -> int:
        return self.each * self.replicas


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    answers: int
    tokens: int
    gpu_hours: float
    hours: float


@dataclass(frozen=True, slots=True)
class Asked:
    """The run that is planned: answers by step. Tasks and their numbers of questions are the evaluation's."""

    probes: int
    probe_cap: int
    steered: int
    scanned: int
    steer_cap: int
    evaluated: int
    evaluate_cap: int


def asked_for(
    defaults: Defaults,
    shape: Shape,
    benchmarks: Sequence[str],
    questions: int | None,
    samples: int | None,
    placebos: int | None,
) -> Asked:
    """The answers of a whole run with the defaults, as far as nothing else is said."""
    chosen = benchmarks or defaults.evaluate_datasets
    limit = questions or defaults.evaluate_limit
    sizes = [QUESTIONS.get(name, UNKNOWN_QUESTIONS) for name in chosen]
    arms = 2 + 2 * (defaults.placebos if placebos is None else placebos)
    swept = questions or defaults.steer_limit
    return Asked(
        probes=defaults.probe_limit,
        probe_cap=defaults.probe_tokens,
        steered=2 * len(defaults.alphas) * swept,
        scanned=2 * shape.layers * min(swept, defaults.scan_limit),
        steer_cap=defaults.steer_tokens,
        evaluated=arms * (samples or defaults.samples) * sum(min(size, limit or size) for size in sizes),
        evaluate_cap=defaults.evaluate_tokens,
    )


def layouts(sizes: Sizes, gpus: int, device: Device, cap: int, tensor_sizes: Sequence[int], take: Assumptions) -> list[Layout]:
    """Every way to use up to `gpus` GPUs in which the weights and at least one row of `cap` tokens fit, the fastest first.

    Raises UsageError where none fits, with the memory that would be needed.
    """
    fitting = []
    for tensor in tensor_sizes:
        for pipeline in (size for size in (1, 2, 4, 8) if size <= sizes.shape.layers):
            if (each := tensor * pipeline) > gpus:
                continue
            free = take.usable_memory * device.memory * each - sizes.weight_bytes
            cache_tokens = int(free / _cache_bytes(sizes, tensor))
            longest = min(cap + take.prompt_tokens, sizes.shape.context or cap + take.prompt_tokens)
            if cache_tokens < longest:
                continue
            typical = take.prompt_tokens + take.thinking_tokens / 2  # a row grows from nothing to its length
            rows = max(1, min(ROWS, int(cache_tokens / typical)))
            fitting.append(Layout(tensor, pipeline, gpus // each, rows, cache_tokens))
    if not fitting:
        needed = (sizes.weight_bytes + cap * sizes.cache_bytes) / take.usable_memory / GIGABYTE
        raise UsageError(
            f"The model does not fit: its weights and one answer need {needed:,.0f} GB of GPU memory, and {gpus} x "
            f"{device.memory / GIGABYTE:,.0f} GB are given.\nGive more GPUs (--gpus) or larger ones (--gpu-memory)."
        )
    return sorted(fitting, key=lambda one: (-speed(sizes, one, device, take), one.tensor * one.pipeline))


def speed(sizes: Sizes, layout: Layout, device: Device, take: Assumptions) -> float:
    """Sampled tokens a second of all replicas together."""
    each = layout.each
    context = take.prompt_tokens + take.thinking_tokens / 2
    arithmetic = layout.rows * sizes.flops(context) / (device.flops * each)
    reading = (sizes.weight_bytes + layout.rows * context * _cache_bytes(sizes, layout.tensor)) / (device.bandwidth * each)
    lost = take.tensor_parallel ** log2(layout.tensor) * take.pipeline_parallel ** log2(layout.pipeline)
    return layout.replicas * layout.rows * take.decoding * lost / max(arithmetic, reading)


def _cache_bytes(sizes: Sizes, tensor: int) -> float:
    """Of one token on all GPUs of an engine, which hold a key-value head several times where there are fewer of them."""
    return sizes.cache_bytes * max(1, tensor / sizes.shape.key_value_heads)


def steps(sizes: Sizes, asked: Asked, layout: Layout, device: Device, take: Assumptions) -> list[Step]:
    """Hours of each step, on the clock and times the GPUs in use; start-up and loading are left out."""
    rate = speed(sizes, layout, device, take)

    def sampling(name: str, answers: int, cap: int) -> Step:
        tokens = answers * min(cap, take.thinking_tokens)
        reading = (
            answers * take.prompt_tokens * sizes.flops(take.prompt_tokens / 2) / (device.flops * take.prefill * layout.gpus)
        )
        seconds = tokens / rate + reading
        return Step(name, answers, tokens, seconds * layout.gpus / 3600, seconds / 3600)

    read = min(asked.probe_cap, take.thinking_tokens)
    tokens = take.examples * (take.prompt_tokens + read)
    once = tokens * sizes.flops(read / 2) / (device.flops * take.prefill)
    return [
        sampling("probe", asked.probes, asked.probe_cap),
        Step("direction", take.examples, tokens, once / 3600, once / 3600),  # the one pass runs on one GPU
        sampling("steering", asked.steered, asked.steer_cap),
        sampling("layer scan", asked.scanned, asked.steer_cap),
        sampling("evaluation", asked.evaluated, asked.evaluate_cap),
    ]


def disk(sizes: Sizes, asked: Asked, take: Assumptions) -> dict[str, float]:
    """Bytes by what for; the edited model is a checkpoint, or an adapter in its place."""
    answers = [
        (asked.probes, asked.probe_cap),
        (asked.steered + asked.scanned, asked.steer_cap),
        (asked.evaluated, asked.evaluate_cap),
    ]
    records = sum(n * (RECORD_BYTES + RECORD_TOKEN_BYTES * min(cap, take.thinking_tokens)) for n, cap in answers)
    shape = sizes.shape
    adapter = 4 * shape.layers * (shape.hidden + shape.heads * shape.head_dim)
    return {
        "model": sizes.weight_bytes,
        "records": records,
        "activations": sizes.activation_bytes * take.examples,
        "edited checkpoint": sizes.weight_bytes,
        "adapter in its place": adapter,
    }
