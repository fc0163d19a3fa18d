"""The planner's formulas against measured runs: what share of this core's peak do decoding and reading reach?

    python benchmarks/plan.py [--rows 32] [--tokens 96]

A random Llama of about 90 M parameters in float32 on one core. The peak is measured first: a large matrix product, and
a product of a vector with a matrix far larger than the caches, which does nothing but read.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from figures import record
from transformers import LlamaConfig, LlamaForCausalLM

from thinkedit.config import read_config, read_shape
from thinkedit.engines.base import Request, Sampling
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.models import ModelSource
from thinkedit.planning import Assumptions, Device, Layout, speed
from thinkedit.sizes import sizes_of

PROMPT = 16
CONFIG = LlamaConfig(
    vocab_size=8192,
    hidden_size=768,
    intermediate_size=2048,
    num_hidden_layers=12,
    num_attention_heads=12,
    num_key_value_heads=4,
)


def best_seconds(work: Callable[[], object], rounds: int = 20) -> float:
    """Of processor time, of which one thread uses as much on a machine that others use too."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=96)
    options = parser.parse_args()
    torch.set_num_threads(1)
    matrix, large, vector = torch.randn(1024, 1024), torch.randn(8192, 8192), torch.randn(8192)
    flops = 2 * 1024**3 / best_seconds(lambda: matrix @ matrix)
    bandwidth = large.numel() * 4 / best_seconds(lambda: large @ vector)
    print(f"peak: {flops / 1e9:.1f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        torch.manual_seed(0)
        model = LlamaForCausalLM(CONFIG)
        counted = sum(parameter.numel() for parameter in model.parameters())
        model.save_pretrained(name)
        path = Path(name)
        sizes = sizes_of(read_config(path), read_shape(path))
        record("plan: parameters counted from the config", sizes.parameters / counted, "those of the model", least=0.99)
        engine = TransformersEngine(ModelSource("random", path), [], "cpu")
        take = Assumptions(decoding=1.0, thinking_tokens=options.tokens, prompt_tokens=PROMPT)
        sampling = Sampling(options.tokens, ignore_eos=True)
        for rows in (1, options.rows):
            requests = [Request(i, tuple(range(PROMPT)), i) for i in range(rows)]
            seconds = best_seconds(lambda asked=requests: list(engine.generate(asked, sampling)), rounds=3)
            measured = rows * options.tokens / seconds
            peak = speed(sizes, Layout(1, 1, 1, rows, 0), Device(1e12, flops, bandwidth), take)
            record(f"plan: share of peak in decoding, {rows} rows", measured / peak, "1 is the formula's bound", most=1.1)
        ids = torch.randint(CONFIG.vocab_size, (4, 256))
        with torch.inference_mode():
            seconds = best_seconds(lambda: engine.model(input_ids=ids, use_cache=False), rounds=5)
        reached = ids.numel() * sizes.flops(ids.shape[1] / 2) / seconds / flops
        record("plan: share of peak in reading", reached, "1 is the formula's bound", most=1.1)


if __name__ == "__main__":
    main()
