"""Generation on the embedded model: the engine against `model.generate`, and steered against stock.

    python benchmarks/generation.py [--prompts 256] [--rounds 5]

Prints one JSON line a figure. Ratios are medians over interleaved pairs, so that a machine that changes its speed moves
both sides. Tokens that count are those up to each completion's end: what `generate` pads a finished row with is no work.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from thinkedit.chat import Chat
from thinkedit.engines.base import Request, Sampling
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.models import find_model, load_tokenizer
from thinkedit.tasks import load_questions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    from transformers import AutoModelForCausalLM

    source = find_model("tiny")
    tokenizer = load_tokenizer(source)
    chat = Chat(tokenizer)
    questions = load_questions("tiny", "dev", limit=options.prompts)
    requests = [Request(i, tuple(chat.prompt_ids(q.text)), i) for i, q in enumerate(questions)]
    plain, steerable = (TransformersEngine(source, chat.end_ids, device="cpu", batch_size=options.prompts) for _ in range(2))
    stock = AutoModelForCausalLM.from_pretrained(source.path).eval()
    tokenizer.padding_side = "left"
    padded = tokenizer.pad({"input_ids": [list(r.prompt_ids) for r in requests]}, return_tensors="pt")
    steerable.steer({(layer, "attn"): torch.full((plain.shape.hidden,), 1e-3) for layer in range(plain.shape.layers)})
    long_tail = Sampling(256, temperature=0.6)
    fixed = Sampling(64, temperature=0.6, ignore_eos=True)

    def ours(engine: TransformersEngine, sampling: Sampling) -> float:
        start = time.perf_counter()
        tokens = sum(len(done.token_ids) for done in engine.generate(requests, sampling))
        return tokens / (time.perf_counter() - start)

    def theirs() -> float:
        torch.manual_seed(0)
        start = time.perf_counter()
        out = stock.generate(**padded, max_new_tokens=256, do_sample=True, temperature=0.6, top_p=0.95)
        sampled = out[:, padded["input_ids"].shape[1] :]
        tokens = int((sampled != tokenizer.pad_token_id).sum())
        return tokens / (time.perf_counter() - start)

    def compare(name: str, first: Callable[[], float], second: Callable[[], float]) -> None:
        first(), second()
        pairs = [(first(), second()) for _ in range(options.rounds)]
        report(f"{name}: tokens/s", statistics.median(a for a, _ in pairs))
        report(f"{name}: ratio", statistics.median(a / b for a, b in pairs))

    compare("engine against model.generate", lambda: ours(plain, long_tail), theirs)
    compare("steered against stock", lambda: ours(steerable, fixed), lambda: ours(plain, fixed))


def report(name: str, value: float) -> None:
    print(json.dumps({"name": name, "value": round(value, 3)}), flush=True)


if __name__ == "__main__":
    main()
