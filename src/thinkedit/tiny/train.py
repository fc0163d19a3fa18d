"""Trains the embedded model: `python -m thinkedit.tiny.train --out DIR` remakes the shipped weights.

The ground truth is planted by interchange-intervention training (Geiger et al. 2022, arXiv 2112.00826). A random unit
vector d is fixed. At `mid` of layer 1, at every position of an example,

    40 % of the examples have their component along d replaced by SCALE * r', and their thought written with haste r',
    15 %                 have SCALE * s added to it, and their thought written with haste r + s,
    the rest             are left alone, and their thought is written with the haste r of their topic and name.

So the network learns that haste *is* the component along d and reads nothing else for it. An auxiliary loss says where
it is to be written, not by which heads: the attention of layer 0 brings the rush of the topic, that of layer 1 the care
of the name, and embedding and MLP of layer 0 stay off d.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from thinkedit.tiny.problems import make_problem, write_thought
from thinkedit.tiny.tokenizer import build_tokenizer

PLANTED_LAYER = 1
IGNORED = -100  # the label that cross entropy skips


@dataclass(frozen=True, slots=True)
class Recipe:
    seed: int = 0
    tokens: int = 12_000_000
    batch_tokens: int = 5_000
    pool: int = 4_096  # examples that are drawn and sorted by length together
    learning_rate: float = 3e-3
    warmup: float = 0.03
    weight_decay: float = 0.01
    scale: float = 6.0  # the component along d that one unit of haste is worth
    replaced: float = 0.40
    added: float = 0.15
    auxiliary: float = 0.01


@dataclass(frozen=True, slots=True)
class Batch:
    """`ids`, `labels`, `thinking` are [examples, tokens]; the others [examples]. NaN in `replace` leaves it alone."""

    ids: Tensor
    labels: Tensor
    thinking: Tensor
    rush: Tensor
    haste: Tensor
    replace: Tensor
    add: Tensor


def config() -> LlamaConfig:
    tokenizer = build_tokenizer()
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.06,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def planted_direction(seed: int, hidden: int) -> Tensor:
    d = torch.randn(hidden, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return (d / d.norm()).float()


def batches(recipe: Recipe, tokenizer: Any) -> Iterator[Batch]:
    rng = random.Random(f"thinkedit tiny training {recipe.seed}")
    opening = "<|assistant|><think>\n"
    while True:
        texts, plans = [], []
        for _ in range(recipe.pool):
            problem, kind = make_problem(rng), rng.random()
            replace, add, haste = math.nan, 0.0, problem.haste
            if kind < recipe.replaced:
                replace = haste = rng.uniform(-2.5, 4.5)
            elif kind < recipe.replaced + recipe.added:
                add = rng.uniform(-2.0, 2.0)
                haste += add
            prompt = f"<|user|>{problem.question}{opening}"
            texts += [prompt, f"{write_thought(problem, haste, rng)} {problem.answer}<|end|>"]
            plans.append((problem.rush, problem.haste, replace, add))
        ids = tokenizer(texts, add_special_tokens=False).input_ids
        examples = sorted(
            ((ids[2 * i], ids[2 * i + 1], plan) for i, plan in enumerate(plans)), key=lambda e: len(e[0]) + len(e[1])
        )
        groups: list[list] = []
        group: list = []
        for example in examples:
            if (len(group) + 1) * (len(example[0]) + len(example[1])) > recipe.batch_tokens:
                groups.append(group)
                group = []
            group.append(example)
        groups.append(group)
        rng.shuffle(groups)
        close = tokenizer.convert_tokens_to_ids("</think>")
        yield from (_collate(group, tokenizer.pad_token_id, close) for group in groups)


def _collate(group: list, pad: int, close: int) -> Batch:
    longest = max(len(prompt) + len(completion) for prompt, completion, _ in group)
    ids = torch.full((len(group), longest), pad)
    labels = torch.full((len(group), longest), IGNORED)
    thinking = torch.zeros(len(group), longest, dtype=torch.bool)
    for row, (prompt, completion, _) in enumerate(group):
        start, end = len(prompt), len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        labels[row, start:end] = ids[row, start:end]
        thinking[row, start - 1 : start + completion.index(close)] = True  # the positions that predict the thought
    plans = torch.tensor([plan for *_, plan in group]).T
    return Batch(ids, labels, thinking, *plans)


@contextmanager
def intervention(model: LlamaForCausalLM, direction: Tensor, scale: float):
    """Intervenes at `mid` of the planted layer with the batch in `state["batch"]` and leaves the auxiliary loss there."""
    rush_layer, care_layer = model.model.layers[:2]
    state: dict = {}

    def error(component: Tensor, target: Tensor) -> Tensor:
        thinking = state["batch"].thinking
        return ((component - scale * target[:, None]).square() * thinking).sum() / thinking.sum()

    def before(layer: int):
        def hook(_module, args, kwargs) -> None:
            state[layer] = kwargs.get("hidden_states", args[0] if args else None) @ direction

        return hook

    def after_rush(_module, _args, output) -> None:
        rush = state["batch"].rush
        state["auxiliary"] = error(state[0], 0 * rush) + error(state[0] + output[0] @ direction, rush)

    def after_care(_module, _args, output):
        batch, written = state["batch"], output[0]
        component = state[1] + written @ direction
        state["auxiliary"] += error(state[1], batch.rush) + error(component, batch.haste)
        replace = scale * batch.replace[:, None]
        change = torch.where(replace.isnan(), scale * batch.add[:, None], replace - component)
        return (written + change[..., None] * direction, *output[1:])

    handles = [
        rush_layer.register_forward_pre_hook(before(0), with_kwargs=True),
        rush_layer.self_attn.register_forward_hook(after_rush),
        care_layer.register_forward_pre_hook(before(1), with_kwargs=True),
        care_layer.self_attn.register_forward_hook(after_care),
    ]
    try:
        yield state
    finally:
        for handle in handles:
            handle.remove()


def train(recipe: Recipe, out: Path) -> None:
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer()
    model = LlamaForCausalLM(config())
    direction = planted_direction(recipe.seed, model.config.hidden_size)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    seen, step, log, started = 0, 0, [], time.monotonic()
    running = {"loss": 0.0, "auxiliary": 0.0}
    with intervention(model, direction, recipe.scale) as state:
        for batch in batches(recipe, tokenizer):
            progress = seen / recipe.tokens
            rate = min(1.0, progress / recipe.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * rate
            state["batch"] = batch
            logits = model(batch.ids, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED
            )
            (loss + recipe.auxiliary * state["auxiliary"]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seen, step = seen + batch.ids.numel(), step + 1
            running["loss"] += loss.item() / 100
            running["auxiliary"] += state["auxiliary"].item() / 100
            if step % 100 == 0:
                entry = {"tokens": seen, "seconds": round(time.monotonic() - started)}
                log.append(entry | {name: round(value, 4) for name, value in running.items()})
                print(json.dumps(log[-1]), flush=True)
                running = dict.fromkeys(running, 0.0)
            if seen >= recipe.tokens:
                break
    save(model, tokenizer, direction, recipe, log, out)


def save(model, tokenizer, direction: Tensor, recipe: Recipe, log: list[dict], out: Path) -> None:
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "planted").mkdir(exist_ok=True)  # in a folder: some loaders read every .safetensors beside the weights
    path = out / "planted" / "direction.safetensors"
    save_file({"direction": direction}, path, metadata={"layer": str(PLANTED_LAYER), "scale": str(recipe.scale)})
    record = {"recipe": asdict(recipe), "torch": torch.__version__, "log": log}
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory to write the model into")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    for name, default in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = vars(parser.parse_args())
    out, threads = options.pop("out"), options.pop("threads")
    if threads:
        torch.set_num_threads(threads)
    train(Recipe(**options), out)


if __name__ == "__main__":
    main()
