"""The loaded model of a run: an engine for answers or a decoder for the one pass, never both in memory at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from thinkedit.chat import Chat
from thinkedit.errors import UsageError
from thinkedit.models import ModelSource, Shape, choose_device

if TYPE_CHECKING:
    from thinkedit.architecture import Decoder
    from thinkedit.engines.base import Ability, Engine

EngineName = Literal["transformers", "vllm", "openai"]


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """What runs the model, and on what. None means: what the machine suggests. Nothing of it shapes an answer but
    the engine itself and the dtype."""

    engine: EngineName | None = None
    device: str | None = None
    dtype: str | None = None
    batch_size: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    edit_as: Literal["adapter", "checkpoint"] = "adapter"
    base_url: str | None = None
    served_model: str | None = None
    served_edited: str | None = None
    concurrency: int = 64


class Machine:
    """Loads what is asked for and frees what stands in its way. Raises UsageError where the options make no sense."""

    def __init__(
        self,
        options: MachineOptions,
        source: ModelSource,
        shape: Shape,
        chat: Callable[[], Chat],
        end_ids: Callable[[], Sequence[int]],
        say: Callable[[str], None],
    ) -> None:
        self.options, self.source, self.shape = options, source, shape
        self._chat, self._end_ids, self._say = chat, end_ids, say
        self._engine: Engine | None = None
        self._decoder: Decoder | None = None
        self._check()

    @cached_property
    def engine_name(self) -> EngineName:
        """The engine that was asked for, else vLLM where it is installed and a GPU is there, else transformers."""
        options = self.options
        if options.engine:
            return options.engine
        if options.base_url:
            return "openai"
        if options.tensor_parallel_size * options.pipeline_parallel_size > 1:
            return "vllm"
        if find_spec("vllm") is None or choose_device(options.device).type != "cuda":
            return "transformers"
        self._say("engine: vllm, since it is installed and a GPU is there (--engine transformers runs without it)")
        return "vllm"

    @property
    def shaping(self) -> dict[str, str]:
        """What of the machine shapes an answer."""
        if self.engine_name == "openai":
            return {"engine": f"openai {self.options.served_model or ''}".strip(), "dtype": "the server's"}
        on_cpu = choose_device(self.options.device).type == "cpu"
        return {"engine": self.engine_name, "dtype": self.options.dtype or ("float32" if on_cpu else "as stored")}

    def engine(self, *abilities: "Ability") -> "Engine":
        """An engine with at least these abilities; one that lacks some is closed first."""
        if self._engine is not None and not set(abilities) <= self._engine.abilities:
            self.close()
        if self._engine is None:
            self._decoder = None
            self._engine = self._open(frozenset(abilities))
        return self._engine

    def decoder(self) -> "Decoder":
        """The decoder whose activations can be read."""
        from thinkedit.engines.transformers import TransformersEngine

        if self.engine_name == "transformers":
            engine = self.engine()
            assert isinstance(engine, TransformersEngine)
            return engine.decoder
        if self._decoder is None:
            from thinkedit.architecture import Decoder
            from thinkedit.models import check_directory, load_model

            self.close()
            check_directory(self.source.path)
            self._decoder = Decoder(load_model(self.source, choose_device(self.options.device), self.options.dtype))
        return self._decoder

    def close(self) -> None:
        self._decoder = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _open(self, abilities: "frozenset[Ability]") -> "Engine":
        options = self.options
        if self.engine_name == "openai":
            from thinkedit.engines.openai import OpenAIEngine

            return OpenAIEngine(
                str(options.base_url),
                self._chat(),
                options.served_model,
                options.served_edited,
                options.concurrency,
                self.shape.context,
                abilities,
                self._say,
            )
        if self.engine_name == "vllm":
            from thinkedit.engines.vllm import VllmEngine

            return VllmEngine(
                self.source,
                self._end_ids(),
                options.dtype,
                options.batch_size,
                options.tensor_parallel_size,
                options.pipeline_parallel_size,
                abilities,
                options.edit_as,
            )
        from thinkedit.engines.transformers import TransformersEngine

        return TransformersEngine(self.source, self._end_ids(), options.device, options.dtype, options.batch_size)

    def _check(self) -> None:
        options = self.options
        if options.engine not in (None, "transformers", "vllm", "openai"):
            raise UsageError(f"There is no engine {options.engine!r}; transformers, vllm and openai are those that there are.")
        if self.options.engine == "openai" and not options.base_url:
            raise UsageError(
                "--engine openai asks a server that is running; say where it is: --base-url http://localhost:8000/v1."
            )
        if self.engine_name != "openai" and (options.base_url or options.served_model or options.served_edited):
            raise UsageError("--base-url, --served-model and --served-edited belong to --engine openai.")
        if self.engine_name == "vllm":
            check_parallel(self.shape, options.tensor_parallel_size, options.pipeline_parallel_size)
        elif options.tensor_parallel_size * options.pipeline_parallel_size > 1:
            raise UsageError("--tensor-parallel-size and --pipeline-parallel-size belong to --engine vllm.")


def check_parallel(shape: Shape, tensor: int, pipeline: int) -> None:
    """Raises UsageError where vLLM could not split the heads or the layers so; names the sizes that work."""
    sizes = parallel_sizes(shape)
    if tensor not in sizes:
        raise UsageError(
            f"--tensor-parallel-size {tensor} does not divide this model's {shape.heads} heads "
            f"({shape.key_value_heads} key-value heads); these sizes work: {', '.join(map(str, sizes))}."
        )
    if not 1 <= pipeline <= shape.layers:
        raise UsageError(f"--pipeline-parallel-size must be 1 to {shape.layers}, the number of layers, not {pipeline}.")


def parallel_sizes(shape: Shape) -> list[int]:
    """Tensor-parallel sizes that split the heads evenly and split or repeat the key-value heads evenly."""
    key_values = shape.key_value_heads
    return [n for n in range(1, shape.heads + 1) if shape.heads % n == 0 and (key_values % n == 0 or n % key_values == 0)]
