"""Generation on the embedded model: our engine against `model.generate`, against its arithmetic floor, against vLLM.

    python benchmarks/generation.py [--prompts 1024] [--pairs 5]
    .venv-vllm/bin/python benchmarks/generation.py --vllm      # the comparison with vLLM alone

The same prompts and the same number of rows on both sides; lengths have a long tail (about 60 tokens on average, up to
200). Tokens that count are those up to each completion's end: what `generate` pads a finished row with is no work.

The floor: every token that is read or written passes through each matrix of the decoder once, 2 FLOPs a parameter, at
the rate that the same matrices reach alone, with as many rows as the batch has.
"""

import argparse
import time

import torch
from figures import median_ratio, record

from thinkedit.chat import Chat
from thinkedit.engines.base import Engine, Request, Sampling
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.loading import load_tokenizer
from thinkedit.models import find_model
from thinkedit.tasks import load_questions

SAMPLING = Sampling(256, temperature=0.6)
ROWS = 256  # a batch for the comparisons; the size axis is below
SIZES = (1, 16, 64, 256, 512, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--vllm", action="store_true", help="compare with vLLM, in an environment that has it")
    options = parser.parse_args()
    source = find_model("tiny")
    tokenizer = load_tokenizer(source)
    chat = Chat(tokenizer)
    questions = load_questions("tiny", "test", limit=options.prompts)
    requests = [Request(i, tuple(chat.prompt_ids(q.text)), i) for i, q in enumerate(questions)]

    def opened(rows: int) -> TransformersEngine:
        return TransformersEngine(source, chat.end_ids, device="cpu", batch_size=rows)

    ours = opened(ROWS)
    if options.vllm:
        from thinkedit.engines.vllm import VllmEngine

        theirs = VllmEngine(source, chat.end_ids, abilities=frozenset())
        ratio = median_ratio(lambda: speed(ours, requests)[0], lambda: speed(theirs, requests)[0], options.pairs)
        record("generation / vLLM on this CPU", ratio, f"tokens/s, {len(requests)} prompts", least=1.0)
        return
    stock = Stock(source.path, tokenizer)
    ratio = median_ratio(lambda: speed(ours, requests)[0], lambda: stock.speed(requests), options.pairs)
    record("generation / model.generate", ratio, f"tokens that count a second, {len(requests)} prompts, {ROWS} rows", least=5)
    best = 0.0
    for rows in SIZES:
        few = requests[: max(16, min(len(requests), 16 * rows))]  # one row at a time would take minutes for all
        engine = opened(rows)
        speed(engine, few)
        tokens, seconds, processed = speed(engine, few)
        share = processed / floor_rate(engine, rows) / seconds
        best = max(best, share)
        record(f"generation: tokens/s with {rows} rows", tokens, f"{len(few)} prompts; {share:.2f} of the floor")
    record("generation: share of the arithmetic floor", best, "at the best batch size; prompts' tokens count", least=0.5)


def speed(engine: Engine, requests: list[Request]) -> tuple[float, float, int]:
    """Sampled tokens a second, seconds, and tokens that passed through the model, prompts included."""
    start = time.perf_counter()
    sampled = sum(len(done.token_ids) for done in engine.generate(list(requests), SAMPLING))
    seconds = time.perf_counter() - start
    return sampled / seconds, seconds, sampled + sum(len(request.prompt_ids) for request in requests)


@torch.inference_mode()
def floor_rate(engine: TransformersEngine, rows: int) -> float:
    """Tokens a second of the model's matrices alone, multiplied one after the other with `rows` rows."""
    weights = [module.weight for module in engine.model.modules() if isinstance(module, torch.nn.Linear)]
    inputs = {weight.shape[1]: torch.randn(rows, weight.shape[1]) for weight in weights}
    repeats = max(5, 20_000 // rows)
    for count in (2, repeats):
        start = time.perf_counter()
        for _ in range(count):
            for weight in weights:
                torch.mm(inputs[weight.shape[1]], weight.T)
        seconds = time.perf_counter() - start
    return repeats * rows / seconds


class Stock:
    """transformers' own `generate`, in batches of ROWS prompts padded on the left."""

    def __init__(self, path, tokenizer) -> None:
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(path).eval()
        self.tokenizer = tokenizer
        tokenizer.padding_side = "left"

    def speed(self, requests: list[Request]) -> float:
        torch.manual_seed(0)
        start, tokens = time.perf_counter(), 0
        for first in range(0, len(requests), ROWS):
            ids = [list(request.prompt_ids) for request in requests[first : first + ROWS]]
            padded = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
            out = self.model.generate(
                **padded, max_new_tokens=SAMPLING.max_tokens, do_sample=True, temperature=0.6, top_p=SAMPLING.top_p
            )
            tokens += int((out[:, padded["input_ids"].shape[1] :] != self.tokenizer.pad_token_id).sum())
        return tokens / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
