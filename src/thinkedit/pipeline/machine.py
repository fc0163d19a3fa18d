"""The loaded model of a run: an engine for answers or a decoder for the one pass, never both in memory at a time."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from thinkedit.chat import Chat
from thinkedit.config import Shape
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.loading import choose_device
from thinkedit.models import ModelSource, find_model

if TYPE_CHECKING:
    from thinkedit.architecture import Decoder
    from thinkedit.engines.base import Ability, Engine, Fleet
    from thinkedit.engines.ray_cluster import Cluster

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
    ray: str | None = None
    ray_workers: int | None = None


ROWS = 256  # an engine's rows as long as nothing is said


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
        self._engine: Engine | Fleet | None = None
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
        if find_spec("vllm") is None or self._on_cpu:
            return "transformers"
        self._say("engine: vllm, since it is installed and a GPU is there (--engine transformers runs without it)")
        return "vllm"

    @property
    def shaping(self) -> dict[str, str]:
        """What of the machine shapes an answer."""
        if self.engine_name == "openai":
            return {"engine": f"openai {self.options.served_model or ''}".strip(), "dtype": "the server's"}
        return {"engine": self.engine_name, "dtype": self.options.dtype or ("float32" if self._on_cpu else "as stored")}

    @cached_property
    def _cluster(self) -> "Cluster":
        from thinkedit.engines.ray_cluster import Cluster

        return Cluster(str(self.options.ray), self.options.device)

    @cached_property
    def _on_cpu(self) -> bool:
        """Whether the model runs on CPUs: this machine's device says so, or the cluster's machines."""
        return not self._cluster.gpus if self.options.ray else choose_device(self.options.device).type == "cpu"

    def engine(self, *abilities: "Ability") -> "Engine | Fleet":
        """An engine with at least these abilities, or many on Ray; one that lacks some is closed first."""
        if self._engine is not None and not set(abilities) <= self._engine.abilities:
            self._free()
        if self._engine is None:
            self._decoder = None
            self._engine = self._open(frozenset(abilities))
            gc.collect()
            gc.freeze()  # what is loaded stays: the collector need not go through it every time
        return self._engine

    def check_able(self, ability: "Ability") -> None:
        """Raises UsageError where the chosen engine can never do it, before anything is read or loaded."""
        if self.engine_name == "openai" and ability == "steering":
            from thinkedit.engines.openai import NO_STEERING

            raise UsageError(NO_STEERING)

    def decoder(self) -> "Decoder":
        """The decoder whose activations can be read."""
        from thinkedit.engines.transformers import TransformersEngine

        if self.engine_name == "transformers" and not self.options.ray:
            engine = self.engine()
            assert isinstance(engine, TransformersEngine)
            return engine.decoder
        if self._decoder is None:
            from thinkedit.architecture import Decoder
            from thinkedit.loading import load_model
            from thinkedit.models import check_directory

            self._free()
            check_directory(self.source.path)
            self._decoder = Decoder(load_model(self.source, choose_device(self.options.device), self.options.dtype))
        return self._decoder

    def close(self) -> None:
        self._free()
        if "_cluster" in self.__dict__:
            self.__dict__.pop("_cluster").close()

    def _free(self) -> None:
        gc.unfreeze()
        self._decoder = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _open(self, abilities: "frozenset[Ability]") -> "Engine | Fleet":
        options = self.options
        if options.ray:
            return self._open_fleet(abilities)
        if self.engine_name != "openai":
            return open_engine(self.engine_name, options, self.source, self._end_ids(), abilities)
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

    def _open_fleet(self, abilities: "frozenset[Ability]") -> "Fleet":
        from thinkedit.artifacts.checkpoint import Checkpoint
        from thinkedit.engines.ray import RayFleet
        from thinkedit.engines.ray_cluster import divide

        cluster, options = self._cluster, self.options
        gpus = 0 if self._on_cpu else options.tensor_parallel_size * options.pipeline_parallel_size
        division = divide(cluster.nodes, gpus, options.ray_workers, may_grow=not cluster.local)
        source = replace(self.source, path=self.source.path.resolve())
        fingerprint = Checkpoint(source.path).fingerprint()
        there = replace(options, device="cpu" if self._on_cpu else "cuda")
        make = partial(open_there, fingerprint, self.engine_name, there, source, list(self._end_ids()), abilities)
        each = (
            f"{gpus} GPU{'' if gpus == 1 else 's'}" if gpus else f"{division.cpus} CPU core{'' if division.cpus == 1 else 's'}"
        )
        machines = f"{len(cluster.nodes)} machine{'' if len(cluster.nodes) == 1 else 's'}"
        self._say(f"Ray: {division.workers} worker{'' if division.workers == 1 else 's'} with {each} each on {machines}")
        return RayFleet(cluster, division, make, options.batch_size or ROWS, self._say)

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
        self._check_ray()
        if self.engine_name == "vllm":
            check_parallel(self.shape, options.tensor_parallel_size, options.pipeline_parallel_size)
        elif options.tensor_parallel_size * options.pipeline_parallel_size > 1:
            raise UsageError("--tensor-parallel-size and --pipeline-parallel-size belong to --engine vllm.")

    def _check_ray(self) -> None:
        options = self.options
        if not options.ray:
            if options.ray_workers:
                raise UsageError("--ray-workers says how many workers --ray has; add --ray.")
            return
        if self.engine_name == "openai":
            raise UsageError("A server has workers of its own (--concurrency asks it for more at once); leave --ray out.")
        if options.device not in (None, "cpu", "cuda"):
            raise UsageError(f"Ray gives each worker its GPU; --device is cpu or cuda with --ray, not {options.device}.")
        from thinkedit.engines.ray_cluster import check_installed

        check_installed()


def open_engine(
    name: EngineName, options: MachineOptions, source: ModelSource, end_ids: Sequence[int], abilities: "frozenset[Ability]"
) -> "Engine":
    """Loads the model into the engine `name`, transformers or vllm."""
    if name == "vllm":
        from thinkedit.engines.vllm import VllmEngine

        return VllmEngine(
            source,
            end_ids,
            options.dtype,
            options.batch_size,
            options.tensor_parallel_size,
            options.pipeline_parallel_size,
            abilities,
            options.edit_as,
            "ray" if options.ray else None,
        )
    from thinkedit.engines.transformers import TransformersEngine

    return TransformersEngine(source, end_ids, options.device, options.dtype, options.batch_size)


def open_there(
    fingerprint: str,
    name: EngineName,
    options: MachineOptions,
    source: ModelSource,
    end_ids: Sequence[int],
    abilities: "frozenset[Ability]",
) -> "Engine":
    """The same on another machine: the model is at the same path there, or in its own hub cache."""
    from thinkedit.artifacts.checkpoint import Checkpoint

    found = source if source.path.is_dir() else find_model(source.name)
    if Checkpoint(found.path).fingerprint() != fingerprint:
        raise ThinkEditError(
            f"A worker found another model at {found.path} than there is here, so their answers would not go together.\n"
            "Give every machine the same files: a shared directory, or the same revision in the hub's cache."
        )
    return open_engine(name, options, found, end_ids, abilities)


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
