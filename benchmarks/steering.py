"""What steering costs: steered against stock generation, and a sweep of 17 strengths against unsteered generation.

    python benchmarks/steering.py [--engine transformers|vllm] [--prompts 512] [--pairs 9]

Stock is the model as it is, without any biases added. Every completion has the same number of tokens (end tokens are
ignored), since steering changes how long the model would go on. On the embedded model.
"""

import argparse
import time

from figures import median_ratio, record, tokens_per_second

from thinkedit.chat import Chat
from thinkedit.config import read_shape
from thinkedit.engines.base import Engine, Request, Sampling
from thinkedit.loading import load_tokenizer
from thinkedit.models import find_model
from thinkedit.tasks import load_questions

TOKENS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=9)
    options = parser.parse_args()

    import torch

    source = find_model("tiny")
    shape = read_shape(source.path)
    chat = Chat(load_tokenizer(source))
    questions = load_questions("tiny", "dev", limit=options.prompts)
    requests = [Request(i, tuple(chat.prompt_ids(q.text)), i) for i, q in enumerate(questions)]
    fixed = Sampling(TOKENS, temperature=0.6, ignore_eos=True)

    def opened(steering: bool) -> Engine:
        if options.engine == "vllm":
            from thinkedit.engines.vllm import VllmEngine

            return VllmEngine(source, chat.end_ids, abilities=frozenset({"steering"} if steering else ()))
        from thinkedit.engines.transformers import TransformersEngine

        return TransformersEngine(source, chat.end_ids)

    def biases(alpha: float) -> dict:
        vector = torch.linspace(-1, 1, shape.hidden, dtype=torch.float64)
        return {(layer, "attn"): alpha * vector for layer in range(shape.layers)}

    start = time.perf_counter()
    stock, steered, control = opened(steering=False), opened(steering=True), opened(steering=False)
    steered.steer(biases(1e-2))

    def speed(engine: Engine) -> float:
        return tokens_per_second(engine, requests, fixed)

    # Several engines in one process may not be alike for reasons of their own: two stock ones, opened before and after.
    what = f"tokens/s of the model without biases, {options.pairs} interleaved pairs"
    before = median_ratio(lambda: speed(steered), lambda: speed(stock), options.pairs)
    after = median_ratio(lambda: speed(steered), lambda: speed(control), options.pairs)
    record(f"{options.engine}: steered / stock generation", min(before, after), f"{what}; the lesser of two", least=0.97)
    null = median_ratio(lambda: speed(control), lambda: speed(stock), options.pairs)
    record(f"{options.engine}: stock / stock generation", null, f"{what}; shows how alike two loads are")

    plain = sum(1 / speed(control) for _ in range(3)) / 3
    start = time.perf_counter()
    for step in range(17):
        steered.steer(biases(0.01 * (step - 8)))
        for _ in steered.generate(requests, fixed):
            pass
    seconds = (time.perf_counter() - start) / (17 * TOKENS * len(requests))
    plain = (plain + sum(1 / speed(control) for _ in range(3)) / 3) / 2
    name = f"{options.engine}: a sweep of 17 strengths in one load, time a token"
    record(name, seconds / plain, "time a token of unsteered generation, before and after it", most=1.1)


if __name__ == "__main__":
    main()
