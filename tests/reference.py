"""The method written straight from its formulas: float64, one example at a time, explicit loops, transformers' own code."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM


def load(path: Path, dtype=torch.float64):
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="eager").eval()


def states(model, ids: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """mid, post [layers, tokens, hidden] and o_proj's input [layers, tokens, heads * head_dim] of one example."""
    seen: dict[tuple[str, int], Tensor] = {}
    hooks = []
    for index, layer in enumerate(model.model.layers):
        hooks += [
            layer.register_forward_hook(
                lambda _m, args, kwargs, out, i=index: seen.update(
                    {("in", i): args[0] if args else kwargs["hidden_states"], ("post", i): out}
                ),
                with_kwargs=True,
            ),
            layer.self_attn.register_forward_hook(lambda _m, _a, out, i=index: seen.update({("attn", i): out[0]})),
            layer.self_attn.o_proj.register_forward_pre_hook(lambda _m, args, i=index: seen.update({("z", i): args[0]})),
        ]
    with torch.no_grad():
        model(torch.tensor([list(ids)]), use_cache=False)
    for hook in hooks:
        hook.remove()
    layers = range(len(model.model.layers))
    mid = torch.stack([seen["in", i][0] + seen["attn", i][0] for i in layers])
    return mid, torch.stack([seen["post", i][0] for i in layers]), torch.stack([seen["z", i][0] for i in layers])


def window_mean(values: Tensor, start: int, stop: int) -> Tensor:
    total = torch.zeros_like(values[:, 0])
    for position in range(start, stop):
        total += values[:, position]
    return total / (stop - start)


def direction(long: Sequence[Tensor], short: Sequence[Tensor]) -> Tensor:
    return sum(long) / len(long) - sum(short) / len(short)


def contribution(model, z: Sequence[Tensor], v: Tensor, head_dim: int) -> Tensor:
    """c[l, h] = < W_o[:, h] zbar[l, h], -v_l / |v_l| >, head by head."""
    zbar = sum(z) / len(z)
    layers, heads = zbar.shape[0], zbar.shape[1] // head_dim
    c = torch.zeros(layers, heads, dtype=torch.float64)
    for layer in range(layers):
        weight = model.model.layers[layer].self_attn.o_proj.weight.detach()
        for head in range(heads):
            part = slice(head * head_dim, (head + 1) * head_dim)
            written = weight[:, part] @ zbar[layer, part]
            c[layer, head] = -(written @ v[layer]) / v[layer].norm()
    return c


def edited(weight: Tensor, v: Tensor, heads: Sequence[int], head_dim: int, strength: float) -> Tensor:
    """(I - strength v v^T) W_o[:, h], with the projector written out."""
    unit = v.double() / v.double().norm()
    projector = torch.eye(len(unit), dtype=torch.float64) - strength * torch.outer(unit, unit)
    result = weight.double().clone()
    for head in heads:
        part = slice(head * head_dim, (head + 1) * head_dim)
        result[:, part] = projector @ weight.double()[:, part]
    return result
