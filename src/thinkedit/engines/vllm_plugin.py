"""What runs inside of vLLM: decoders that have a bias on every o_proj and down_proj, and workers that set it.

Steering adds alpha * v to what attention or MLP write, which is a bias on o_proj or down_proj. vLLM's models mostly have
no such bias, so for every architecture `X` this plugin (entry point `vllm.general_plugins`) registers `SteerableX`: the
same class, with a zero bias wherever there was none. Compiled graphs read the biases as parameters, so that copying into
them steers without hooks, eager mode or a reload. RowParallelLinear adds its bias on the first rank alone, so tensor
parallelism comes out right.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

PREFIX = "Steerable"
PROJECTION = {"attn": "self_attn.o_proj", "mlp": "mlp.down_proj"}
PLACE = re.compile(r"(?:^|\.)layers\.(\d+)\.(self_attn\.o_proj|mlp\.down_proj)$")


def register() -> None:
    """Registers the steerable form of every decoder that vLLM knows. They are made when they are asked for."""
    from vllm import ModelRegistry

    known = list(ModelRegistry.get_supported_archs())
    for name in known:
        if name.endswith("ForCausalLM") and not name.startswith(PREFIX) and PREFIX + name not in known:
            ModelRegistry.register_model(PREFIX + name, f"{__name__}:{PREFIX}{name}")


def __getattr__(name: str) -> type:
    if not name.startswith(PREFIX):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = _steerable(name)
    globals()[name] = made
    return made


def _steerable(name: str) -> type:
    from vllm import ModelRegistry

    base: Any = ModelRegistry.models[name.removeprefix(PREFIX)].load_model_cls()

    class Steerable(base):
        def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
            super().__init__(vllm_config=vllm_config, prefix=prefix)
            self.added_biases: set[str] = set()
            for path, module in projections(self):
                if module.bias is None:
                    zero = torch.zeros(module.output_size, dtype=module.params_dtype)
                    module.register_parameter("bias", nn.Parameter(zero, requires_grad=False))
                    self.added_biases.add(f"{path}.bias")

        def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> Any:
            loaded = super().load_weights(weights)
            return loaded if loaded is None else loaded | self.added_biases

    Steerable.__name__ = Steerable.__qualname__ = name
    Steerable.__module__ = __name__
    return Steerable


def projections(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every o_proj and down_proj that this worker holds, by path; inside of its LoRA wrapper where it has one."""
    for path, module in model.named_modules():
        if PLACE.search(path):
            yield path, getattr(module, "base_layer", module)


class SteeringWorker:
    """Methods that vLLM's workers get (`worker_extension_cls`); called by name, with plain data alone."""

    def thinkedit_steer(self, places: list[list[Any]], vectors: bytes) -> list[list[Any]]:
        """Sets every bias to its own value plus the vector given for it; gives the places found on this worker.

        `places` lists (layer, control) pairs, `vectors` their float64 values [len(places), hidden] as bytes.
        """
        model = self.get_model()  # type: ignore[attr-defined]
        if not hasattr(self, "thinkedit_own"):
            self.thinkedit_own: dict[str, Tensor] = {}
        steered: dict[str, Tensor] = {}
        for (layer, control), values in zip(places, unpack(vectors, len(places)), strict=True):
            steered[f"layers.{layer}.{PROJECTION[control]}"] = values
        found = []
        with torch.inference_mode():
            for path, module in projections(model):
                vector: Tensor | None = steered.get(path[path.rindex("layers.") :])
                if vector is None and path not in self.thinkedit_own:
                    continue
                own = self.thinkedit_own.setdefault(path, module.bias.detach().clone())
                module.bias.data.copy_(own if vector is None else own.double() + vector.to(own.device))
                if vector is not None:
                    found.append(PLACE.search(path).groups())  # type: ignore[union-attr]
        names = {projection: control for control, projection in PROJECTION.items()}
        return [[int(layer), names[projection]] for layer, projection in found]

    def thinkedit_unsteerable(self) -> list[str]:
        """The projections of this worker that a bias would not reach, each with the reason."""
        problems = []
        for path, module in projections(self.get_model()):  # type: ignore[attr-defined]
            if getattr(module, "bias", None) is None:
                problems.append(f"{path} ({type(module).__name__}) has no bias")
            elif not getattr(module, "reduce_results", True) or getattr(module, "skip_bias_add", False):
                problems.append(f"{path} hands its bias on instead of adding it")
        return problems


def pack(vectors: list[Tensor]) -> bytes:
    """float64 vectors [hidden] one after another."""
    return torch.stack([v.detach().cpu().double() for v in vectors]).numpy().tobytes() if vectors else b""


def unpack(data: bytes, count: int) -> list[Tensor]:
    return list(torch.frombuffer(bytearray(data), dtype=torch.float64).view(count, -1)) if count else []
