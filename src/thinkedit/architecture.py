"""Where a loaded decoder keeps what the method touches, and the probe that decides whether the method fits it.

    x     the layer's input             mid = x + Attn(norm(x))
    mid   the middle of the layer       post = mid + MLP(norm(mid))

The probe looks at the numbers, not at the name: it refuses models that put a norm behind o_proj (Gemma 2 and 3,
OLMo 2), scale the residual (Granite) or run attention and MLP side by side (Cohere, GPT-J).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from thinkedit.config import read_shape
from thinkedit.errors import ThinkEditError
from thinkedit.models import ModelSource

LARGEST_MATRIX = 1 << 30  # numbers; a model of 400 B parameters has a quarter of that


class Decoder:
    """The parts of a causal language model, found by structure. Raises ThinkEditError where the method does not fit."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.body: Any = model.get_decoder()
        self.head: Any = model.get_output_embeddings()
        try:
            self.layers: list[Any] = list(self.body.layers)
            self.projections = [layer.self_attn.o_proj for layer in self.layers]
            self.mid_readers = [layer.post_attention_layernorm for layer in self.layers]
            self.mlps = [layer.mlp for layer in self.layers]
        except AttributeError as error:
            raise ThinkEditError(
                f"{type(model).__name__} is built differently from the decoders that the method is made for "
                f"(layers with self_attn.o_proj, post_attention_layernorm and mlp): {error}."
            ) from None
        if not all(isinstance(projection, nn.Linear) for projection in self.projections):
            raise ThinkEditError(f"The o_proj of {type(model).__name__} is no plain linear layer (quantised?).")
        self._probe()

    def module(self, layer: int, control: str) -> nn.Linear:
        """The linear layer whose bias steers: o_proj for attn, down_proj for mlp."""
        if control == "attn":
            return self.projections[layer]
        down = getattr(self.mlps[layer], "down_proj", None)
        if not isinstance(down, nn.Linear):
            raise ThinkEditError(
                f"The MLP of layer {layer} has no single down_proj (a mixture of experts?), so it cannot be steered; "
                "use --control attn."
            )
        return down

    @contextmanager
    def watch(self, layer: int, seen: Callable[[str, Tensor], None]) -> Iterator[None]:
        """Calls `seen` with "input", "heads", "attn", "mid", "mlp" and "post" of a layer at every forward."""
        module = self.layers[layer]
        hooks = [
            module.register_forward_pre_hook(
                lambda _m, args, kwargs: seen("input", args[0] if args else kwargs["hidden_states"]), with_kwargs=True
            ),
            self.projections[layer].register_forward_pre_hook(lambda _m, args: seen("heads", args[0])),
            self.projections[layer].register_forward_hook(lambda _m, _a, out: seen("attn", out)),
            self.mid_readers[layer].register_forward_pre_hook(lambda _m, args: seen("mid", args[0])),
            self.mlps[layer].register_forward_hook(lambda _m, _a, out: seen("mlp", out[0] if isinstance(out, tuple) else out)),
            module.register_forward_hook(lambda _m, _a, out: seen("post", out[0] if isinstance(out, tuple) else out)),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @torch.inference_mode()
    def _probe(self) -> None:
        """A vector added to o_proj's output must move `mid` by exactly itself, and `post` must be mid + MLP."""
        vocabulary, device = self.head.weight.shape[0], self.head.weight.device
        ids = torch.arange(1, 7, device=device)[None] * 7919 % vocabulary
        hidden, plain = self.observe(ids)
        logits = self.model(ids, use_cache=False).logits
        if not torch.isfinite(logits).all():
            raise ThinkEditError(
                f"{type(self.model).__name__} computes infinities or NaN: its weights are broken, or its numbers do not fit "
                f"{str(logits.dtype).removeprefix('torch.')}.\n`thinkedit doctor` says which tensors hold such numbers."
            )
        self._expect(logits, self.head(hidden), "its logits are more than the output embedding of the last norm")
        width = self.projections[0].weight.shape[0]
        vector = torch.linspace(-1, 1, width, device=device, dtype=hidden.dtype) * plain[0]["attn"].abs().mean()
        pushes = [p.register_forward_hook(lambda _m, _a, out: out + vector) for p in self.projections]
        try:
            _, moved = self.observe(ids)
        finally:
            for push in pushes:
                push.remove()
        for seen, pushed in zip(plain, moved, strict=True):
            if any(set(one) != {"input", "heads", "attn", "mid", "mlp", "post"} for one in (seen, pushed)):
                raise self._unfit("some of its parts are never called in a forward pass")
            self._expect(seen["mid"], seen["input"] + seen["attn"], "o_proj's output is not added to the stream as it is")
            self._expect(pushed["mid"], pushed["input"] + pushed["attn"], "what is added to o_proj's output gets lost")
            self._expect(seen["post"], seen["mid"] + seen["mlp"], "the MLP's output is not added to the stream as it is")

    @torch.inference_mode()
    def observe(self, ids: Tensor) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """The last hidden state [rows, tokens, hidden], and what `watch` sees in each layer, by its name there."""
        seen: list[dict[str, Tensor]] = [{} for _ in self.layers]
        with ExitStack() as stack:
            for layer, parts in enumerate(seen):
                stack.enter_context(self.watch(layer, parts.__setitem__))
            return self.body(ids, use_cache=False).last_hidden_state, seen

    def _expect(self, found: Tensor, wanted: Tensor, why: str) -> None:
        precision = torch.finfo(found.dtype).eps
        scale = wanted.float().abs().max().clamp_min(1e-30)
        difference = (found.float() - wanted.float()).abs().max() / scale
        if not difference <= 8 * precision:  # NaN must not pass
            raise self._unfit(f"{why} (off by {difference.item():.1e} of its size)")

    def _unfit(self, why: str) -> ThinkEditError:
        return ThinkEditError(
            f"{type(self.model).__name__} cannot be steered or edited by this method: {why}.\n"
            "Llama, Qwen2, Qwen3, Mistral and models built like them can."
        )


def probe_small(source: ModelSource) -> None:
    """The same probe on one random layer of the model's configuration, for engines that load the model themselves."""
    Decoder(small_model(source, layers=1))


def small_model(source: ModelSource, layers: int) -> PreTrainedModel:
    """Some random layers of the model's configuration, with few tokens and a narrow MLP; float32."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = read_shape(source.path)
    if shape.hidden * shape.heads * shape.head_dim > LARGEST_MATRIX:
        raise ThinkEditError(f"One attention layer of {source.name} is too large to be tried out on random numbers.")
    try:
        config = AutoConfig.from_pretrained(str(source.path), local_files_only=True)
        text = config.get_text_config()
        text.num_hidden_layers, text.vocab_size, text.pad_token_id = layers, 64, None
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:layers]
        if getattr(text, "intermediate_size", None):
            text.intermediate_size = min(text.intermediate_size, 64)
        config.quantization_config = None
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except Exception as error:  # configurations are checked by many hands
        raise ThinkEditError(f"Whether {source.name} can be steered or edited could not be found out: {error}") from None
    return model.eval()
