"""The one pass (both directions and all head scores) against the published way and against a bare forward pass.

    python benchmarks/one_pass.py [--examples 100] [--rounds 3]

On a random 6-layer, 512-wide Qwen2 with a vocabulary of 50,000 and examples of 40 to 800 tokens. The published way is
written here from its description: three runs over the examples, one example at a time, with logits; the attn run keeps
the middle of every layer, the mlp run asks for all hidden states, the head run multiplies every token's slice of every
head by its part of o_proj. The floor is the decoder's forward pass alone over the same tokens, sorted by length, in the
fastest of several batch sizes. The size axis is the number of examples; peak memory must not grow with it.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from figures import median_ratio, record

from thinkedit.activations import Example, compute_activations
from thinkedit.architecture import Decoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-of", type=int, help="internal: print the peak memory of a pass over this many examples")
    options = parser.parse_args()
    decoder = make_decoder()
    if options.memory_of:
        one_pass(decoder, make_examples(options.memory_of))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    examples = make_examples(options.examples)
    tokens = sum(len(example.ids) for example in examples)

    def ours() -> float:
        return tokens / timed(lambda: one_pass(decoder, examples))

    best = min((1024, 2048, 4096, 8192), key=lambda size: min(timed(lambda: bare(decoder, examples, size)) for _ in range(2)))

    def floor() -> float:
        return tokens / timed(lambda: bare(decoder, examples, best))

    few = examples[:: max(1, len(examples) // 20)]  # the published way takes minutes: a fifth of the examples at a time
    few_tokens = sum(len(example.ids) for example in few)

    def published() -> float:
        return few_tokens / timed(lambda: as_published(decoder, few))

    what = f"{len(examples)} examples, {tokens:,} tokens"
    record(
        "one pass / bare forward pass",
        median_ratio(ours, floor, options.rounds),
        f"tokens/s; {what}; its best batches: {best} tokens",
        least=0.85,
    )
    record("one pass / the published three", median_ratio(ours, published, options.rounds), "tokens/s", least=5)
    for count in (25, 50, 100, 200):
        sample = make_examples(count)
        speed = sum(len(example.ids) for example in sample) / timed(lambda sample=sample: one_pass(decoder, sample))
        record(f"one pass: tokens/s with {count} examples", speed, "the number of examples")
    peaks = {count: peak_memory(count) for count in (50, 200)}
    record("one pass: peak memory of 200 / of 50 examples", peaks[200] / peaks[50], f"MB: {peaks}", most=1.05)


def make_decoder() -> Decoder:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from thinkedit.engines.attention import ATTENTION

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=50_000,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        attn_implementation=ATTENTION,
    )
    return Decoder(Qwen2ForCausalLM(config).eval().requires_grad_(False))


def make_examples(count: int) -> list[Example]:
    generator = torch.Generator().manual_seed(count)
    sizes = torch.randint(40, 801, (count,), generator=generator).tolist()
    ids = [tuple(torch.randint(50_000, (size,), generator=generator).tolist()) for size in sizes]
    return [Example(i, one, slice(20, len(one)), len(one) - 20) for i, one in enumerate(ids)]


def timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def one_pass(decoder: Decoder, examples: list[Example]) -> None:
    """Activations, both directions and every head's contribution, in a new file."""
    with tempfile.TemporaryDirectory() as folder:
        found = compute_activations(decoder, examples, Path(folder) / "activations.safetensors", {})
        short, long = found.thinking_tokens < 200, found.thinking_tokens >= 200
        for layer, projection in enumerate(decoder.projections):
            v = torch.from_numpy(found.mid[long, layer].mean(0, dtype=float) - found.mid[short, layer].mean(0, dtype=float))
            _ = found.post[long, layer].mean(0, dtype=float) - found.post[short, layer].mean(0, dtype=float)
            u = projection.weight.double().T @ (-v / v.norm())
            mean = torch.from_numpy(found.heads[short, layer].mean(0, dtype=float))
            (u * mean).view(8, -1).sum(1)


@torch.inference_mode()
def bare(decoder: Decoder, examples: list[Example], batch_tokens: int) -> None:
    batch: list[Example] = []
    ordered = sorted(examples, key=lambda example: -len(example.ids))
    for example in [*ordered, None]:
        if batch and (example is None or (len(batch) + 1) * len(batch[0].ids) > batch_tokens):
            ids = torch.zeros(len(batch), len(batch[0].ids), dtype=torch.long)
            for row, one in enumerate(batch):
                ids[row, : len(one.ids)] = torch.tensor(one.ids)
            decoder.body(ids, use_cache=False)
            batch = []
        if example is not None:
            batch.append(example)


@torch.inference_mode()
def as_published(decoder: Decoder, examples: list[Example]) -> None:
    model, layers, heads = decoder.model, len(decoder.layers), 8
    for example in examples:  # the attn run
        middles: dict[int, torch.Tensor] = {}
        hooks = [
            reader.register_forward_pre_hook(lambda _m, args, kept=middles, layer=layer: kept.update({layer: args[0].clone()}))
            for layer, reader in enumerate(decoder.mid_readers)
        ]
        model(torch.tensor([example.ids]))
        for hook in hooks:
            hook.remove()
        _ = [middles[layer][0, example.window].mean(0) for layer in range(layers)]
    for example in examples:  # the mlp run
        states = model(torch.tensor([example.ids]), output_hidden_states=True).hidden_states
        _ = torch.stack([layer[0, example.window].mean(0) for layer in states[1:]])
    for example in examples:  # the head run
        inputs: dict[int, torch.Tensor] = {}
        hooks = [
            projection.register_forward_pre_hook(
                lambda _m, args, kept=inputs, layer=layer: kept.update({layer: args[0].clone()})
            )
            for layer, projection in enumerate(decoder.projections)
        ]
        model(torch.tensor([example.ids]))
        for hook in hooks:
            hook.remove()
        for layer, projection in enumerate(decoder.projections):
            width = projection.weight.shape[1] // heads
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                (inputs[layer][0, :, part] @ projection.weight[:, part].T)[example.window].mean(0)


def peak_memory(count: int) -> int:
    """Peak resident memory in MB of a process that makes the model and one pass over `count` examples."""
    command = [sys.executable, __file__, "--memory-of", str(count)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
