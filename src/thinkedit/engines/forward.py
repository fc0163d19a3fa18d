"""The decoder's forward pass while it generates, in about a third of the operations that the model's own code takes.

Small models and small batches are bound by the number of operations, not by their arithmetic. Decoders of the Llama kind
(Llama, Mistral, Qwen2, Qwen3) are therefore run from their weights: one product for queries, keys and values, one for gate
and up, the residual added inside of the product, the rotation looked up; on a CPU what lies between the products is
compiled (kernels.c). Any other decoder, and one whose numbers come out differently here, runs its own code. Weights stay
the model's own tensors, so edits and steering biases count at once.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, rms_norm, silu

from thinkedit.architecture import Decoder
from thinkedit.engines import kernels
from thinkedit.engines.attention import KeyValueCache, causal_attention
from thinkedit.engines.step import Step, make_step


class Forward(Protocol):
    cache_type: type[KeyValueCache]

    def __call__(self, ids: Tensor, positions: Tensor, cache: KeyValueCache | None) -> Tensor:
        """`ids` [rows, tokens], `positions` [rows or 1, tokens]; gives the last norm's output [rows, tokens, hidden]."""


def make_forward(decoder: Decoder) -> Forward:
    """The short pass where the decoder is of that kind and gives the same numbers, else the model's own."""
    own = OwnForward(decoder)
    if not is_llama_like(decoder):
        return own
    short = ShortForward(decoder)
    with torch.inference_mode():
        vocabulary, device = decoder.head.weight.shape[0], decoder.head.weight.device
        ids = torch.arange(1, 17, device=device).view(2, 8) * 7919 % vocabulary
        positions = torch.arange(8, device=device)[None]
        wanted, found = own(ids, positions, None).float(), short(ids, positions, None).float()
        precision = torch.finfo(decoder.head.weight.dtype).eps
    return short if (found - wanted).abs().max() <= 64 * precision * wanted.abs().max() else own


class OwnForward:
    """The model's own code."""

    cache_type = KeyValueCache

    def __init__(self, decoder: Decoder) -> None:
        self.body = decoder.body

    def __call__(self, ids: Tensor, positions: Tensor, cache: KeyValueCache | None) -> Tensor:
        return self.body(ids, position_ids=positions, use_cache=False, cache=cache).last_hidden_state


def is_llama_like(decoder: Decoder) -> bool:
    """Whether all parts are there, no others, and none that changes with the length of the text."""
    rotary = getattr(decoder.body, "rotary_emb", None)
    kind = getattr(rotary, "rope_type", "dynamic")
    if "dynamic" in kind or kind == "longrope" or decoder.model.config.get_text_config().hidden_act not in ("silu", "swish"):
        return False
    for layer in decoder.layers:
        parts = {name for name, _ in layer.named_children()}
        attention = {name for name, _ in layer.self_attn.named_children()} - {"rotary_emb"}
        mlp = {name for name, _ in layer.mlp.named_children()} - {"act_fn"}
        projections = {"q_proj", "k_proj", "v_proj", "o_proj"}
        if parts != {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}:
            return False
        if attention not in (projections, projections | {"q_norm", "k_norm"}) or mlp != {"gate_proj", "up_proj", "down_proj"}:
            return False
        linears = [getattr(layer.self_attn, name) for name in projections] + [getattr(layer.mlp, name) for name in mlp]
        if not all(type(module) is nn.Linear for module in linears):
            return False
    norms = [decoder.body.norm, *(layer.input_layernorm for layer in decoder.layers), *decoder.mid_readers]
    return all(hasattr(norm, "variance_epsilon") for norm in norms)


class ShortForward:
    """Takes over q, k, v and gate, up as rows of one matrix each, of which the modules keep views."""

    def __init__(self, decoder: Decoder) -> None:
        self.embedding: Tensor = decoder.body.embed_tokens.weight
        self.final_norm: Any = decoder.body.norm
        self.rotary: Any = decoder.body.rotary_emb
        self.compiled = kernels.fits(self.embedding, decoder.layers[0].self_attn.head_dim)
        self.cache_type = kernels.BlockedCache if self.compiled else KeyValueCache
        self.norm = kernels.norm if self.compiled else _norm
        gate = kernels.gate if self.compiled else _gate
        self.layers = [_Layer(layer, number, self.norm, gate) for number, layer in enumerate(decoder.layers)]
        self.step = make_step(self.layers, self.final_norm) if self.compiled else None
        self.turns = self._turns(0)

    def __call__(self, ids: Tensor, positions: Tensor, cache: KeyValueCache | None) -> Tensor:
        rows, tokens = ids.shape
        appending = cache is not None and cache.rows is None
        needed = cache.span if cache is not None and appending else tokens
        if needed > self.turns.shape[1]:
            self.turns = self._turns(2 * needed)
        if self.step is not None and isinstance(cache, kernels.BlockedCache):
            return self._in_one_call(self.step, ids, cache)
        x = embedding(ids, self.embedding).view(rows * tokens, -1)
        if appending and isinstance(cache, kernels.BlockedCache):
            for layer in self.layers:
                x = layer.append(x, self.turns, cache)
        else:
            turns = self.turns[:, positions.expand(rows, tokens).reshape(-1)]
            for layer in self.layers:
                x = layer(x, turns, tokens, cache)
        return self.norm(x, self.final_norm.weight, self.final_norm.variance_epsilon).view(rows, tokens, -1)

    def _in_one_call(self, step: Step, ids: Tensor, cache: kernels.BlockedCache) -> Tensor:
        if cache.rows is None:
            return step.append(embedding(ids[:, 0], self.embedding), self.turns, cache)[:, None]
        inside = torch.arange(ids.shape[1]) < cache.sizes[:, None]
        out = self.embedding.new_zeros(*ids.shape, self.embedding.shape[1])
        out[inside] = step.read(embedding(ids[inside], self.embedding), self.turns, cache, cache.rows)
        return out

    def _turns(self, length: int) -> Tensor:
        """Cosine and signed sine of every position's angles: [2, length, 1, head_dim]. Rotating swaps the halves of a
        head, of which the first changes its sign; here the sine has that sign."""
        cos, sin = self.rotary(self.embedding[:1], torch.arange(length, device=self.embedding.device)[None])
        half = sin.shape[-1] // 2
        return torch.stack([cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], -1)])[:, :, None]


class _Layer:
    """Functions of `x` [rows * tokens, hidden]; `turns` [2, positions, 1, head_dim] are cosines and signed sines."""

    def __init__(self, layer: Any, number: int, norm: Callable[..., Tensor], gate: Callable[[Tensor], Tensor]) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.number, self.norm, self.gate = number, norm, gate
        self.first_norm, self.second_norm = layer.input_layernorm, layer.post_attention_layernorm
        self.head_norms = (attention.q_norm, attention.k_norm) if hasattr(attention, "q_norm") else None
        self.qkv_weight, self.qkv_bias = _stacked([attention.q_proj, attention.k_proj, attention.v_proj])
        self.gate_up_weight, self.gate_up_bias = _stacked([mlp.gate_proj, mlp.up_proj])
        self.o_proj, self.down_proj = attention.o_proj, mlp.down_proj
        self.head_dim, self.scaling = attention.head_dim, attention.scaling
        self.heads = attention.q_proj.out_features // self.head_dim
        self.turned = self.heads + attention.k_proj.out_features // self.head_dim
        self.window = getattr(attention, "sliding_window", getattr(attention.config, "sliding_window", None))

    def __call__(self, x: Tensor, turns: Tensor, tokens: int, cache: KeyValueCache | None) -> Tensor:
        """Whole prompts, or one more token a row."""
        qkv = self.qkv(x)
        qk, half = qkv[:, : self.turned], self.head_dim // 2
        qk = torch.addcmul(qk * turns[0], torch.cat([qk[..., half:], qk[..., :half]], -1), turns[1])
        query, key, value = (
            part.unflatten(0, (-1, tokens)).transpose(1, 2)
            for part in (qk[:, : self.heads], qk[:, self.heads :], qkv[:, self.turned :])
        )
        if cache is None:
            seen = causal_attention(query, key, value, self.scaling, self.window)
        else:
            seen = cache.attend(self.number, query, key, value, self.scaling, self.window)
        return self.mlp(_add_linear(x, seen.reshape(x.shape[0], -1), self.o_proj))

    def append(self, x: Tensor, turns: Tensor, cache: kernels.BlockedCache) -> Tensor:
        """One more token a row; `turns` of all positions."""
        seen = cache.attend_turned(self.number, self.qkv(x), turns, self.heads, self.scaling, self.window)
        return self.mlp(_add_linear(x, seen.view(x.shape[0], -1), self.o_proj))

    def qkv(self, x: Tensor) -> Tensor:
        """[rows * tokens, heads + 2 key_value_heads, head_dim], before the rotation."""
        normed = self.norm(x, self.first_norm.weight, self.first_norm.variance_epsilon)
        qkv = linear(normed, self.qkv_weight, self.qkv_bias).view(x.shape[0], -1, self.head_dim)
        if self.head_norms is None:
            return qkv
        q, k, v = qkv.tensor_split((self.heads, self.turned), 1)
        q_norm, k_norm = self.head_norms
        q, k = _norm(q, q_norm.weight, q_norm.variance_epsilon), _norm(k, k_norm.weight, k_norm.variance_epsilon)
        return torch.cat([q, k, v], 1)

    def mlp(self, x: Tensor) -> Tensor:
        normed = self.norm(x, self.second_norm.weight, self.second_norm.variance_epsilon)
        return _add_linear(x, self.gate(linear(normed, self.gate_up_weight, self.gate_up_bias)), self.down_proj)


def _stacked(modules: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Weights (and biases) under one another; the modules' own become views of them, so that nothing is held twice."""
    weight = torch.cat([module.weight.data for module in modules])
    biases = [module.bias for module in modules if module.bias is not None]
    for module, part in zip(modules, weight.split([module.out_features for module in modules]), strict=True):
        module.weight.data = part
    if not biases:
        return weight, None
    zeros = [module.weight.new_zeros(module.out_features) for module in modules]
    return weight, torch.cat([zero if m.bias is None else m.bias.data for m, zero in zip(modules, zeros, strict=True)])


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rms_norm(x, (x.shape[-1],), weight, eps)


def _gate(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, -1)
    return silu(gate) * up


def _add_linear(x: Tensor, inner: Tensor, module: nn.Linear) -> Tensor:
    """x + module(inner)"""
    x = torch.addmm(x, inner, module.weight.t())
    return x if module.bias is None else x.add_(module.bias)
