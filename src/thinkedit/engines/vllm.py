"""vLLM as an engine: offline batches of token-id prompts, steered by biases and edited by adapter or by checkpoint."""

import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Literal

from thinkedit.artifacts.checkpoint import Checkpoint, write_edited
from thinkedit.config import read_config, read_shape
from thinkedit.edit import Edit
from thinkedit.engines import vllm_plugin
from thinkedit.engines.base import Ability, Biases, Completion, Request, Sampling, as_queue
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.models import ModelSource

CPU_CONTEXT = 32768  # tokens
ROWS = 256  # requests at work at a time, unless told otherwise
INSTALL = 'pip install "thinkedit[vllm]" (CUDA), or "make vllm-env" for a machine without a GPU'


class VllmEngine:
    """Completes requests with vLLM. `abilities` says what is to come: only then are biases or adapters made room for.

    An edit is switched on as a LoRA adapter of rank 1, or by reloading the weights of an edited checkpoint. `executor`
    "ray" puts the processes of a parallel model into the placement group of this one; None leaves it to vLLM.
    """

    continues = True

    def __init__(
        self,
        source: ModelSource,
        end_ids: Iterable[int],
        dtype: str | None = None,
        batch_size: int | None = None,
        tensor_parallel_size: int = 1,
        pipeline_parallel_size: int = 1,
        abilities: frozenset[Ability] = frozenset(),
        edit_as: Literal["adapter", "checkpoint"] = "adapter",
        executor: Literal["ray"] | None = None,
    ) -> None:
        self.source, self.abilities, self.edit_as = source, abilities, edit_as
        self.end_ids = sorted(set(end_ids))
        self.rows = batch_size or ROWS
        on_cpu = _prepare_platform()
        architecture = _architecture(source)
        if abilities:
            _check_fits(source, architecture)
        settings: dict[str, Any] = {
            "model": str(source.path),
            "skip_tokenizer_init": True,
            "generation_config": "vllm",
            "dtype": dtype or ("float32" if on_cpu else "auto"),
            "max_model_len": -1,  # as long as the model's context and the memory allow
            "max_num_seqs": self.rows,
            "tensor_parallel_size": tensor_parallel_size,
            "pipeline_parallel_size": pipeline_parallel_size,
            "distributed_executor_backend": executor if tensor_parallel_size * pipeline_parallel_size > 1 else None,
            "worker_extension_cls": f"{vllm_plugin.__name__}.SteeringWorker",
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        if on_cpu:  # its random generators cannot be wound back, which a prompt that is read in pieces needs
            longest = min(read_shape(source.path).context or CPU_CONTEXT, CPU_CONTEXT)
            settings |= {
                "max_model_len": longest,
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(4096, longest),
            }
        if "steering" in abilities:
            settings["hf_overrides"] = {"architectures": [vllm_plugin.PREFIX + architecture]}
        if "editing" in abilities and edit_as == "adapter":
            settings |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": 1, "lora_target_modules": ["o_proj"]}
        self.llm = _load(settings, source)
        self.context = int(self.llm.llm_engine.model_config.max_model_len)
        if "steering" in abilities:
            problems = [problem for found in self.llm.collective_rpc("thinkedit_unsteerable") for problem in found]
            if problems:
                raise ThinkEditError(f"{source.name} cannot be steered in vLLM: {problems[0]}. Use --engine transformers.")
        self._numbers = count(1)
        self._lora: Any = None
        self._reloaded = False
        self._scratch = tempfile.TemporaryDirectory(prefix="thinkedit-")

    # ---------------------------------------------------------------------------------------------- steer and edit

    def steer(self, biases: Biases | None) -> None:
        if "steering" not in self.abilities:
            if biases:
                raise UsageError('This engine was opened without "steering" among its abilities.')
            return
        places, vectors = [list(place) for place in biases or {}], list((biases or {}).values())
        found = self.llm.collective_rpc("thinkedit_steer", args=(places, vllm_plugin.pack(vectors)))
        missing = {tuple(place) for place in places} - {tuple(place) for worker in found for place in worker}
        if missing:
            layer, control = sorted(missing)[0]
            raise ThinkEditError(
                f"vLLM's model has no {vllm_plugin.PROJECTION[str(control)]} in layer {layer}, so {control} steering has no "
                "place there (a mixture of experts?). Use --control attn, or --engine transformers."
            )
        self.llm.reset_prefix_cache()

    def apply(self, edit: Edit | None) -> None:
        if "editing" not in self.abilities:
            if edit is not None:
                raise UsageError('This engine was opened without "editing" among its abilities.')
            return
        if self.edit_as == "adapter":
            self._lora = None if edit is None else self._adapter(edit)
        else:
            self._reload(edit)
        self.llm.reset_prefix_cache()

    def _adapter(self, edit: Edit) -> Any:
        from vllm.lora.request import LoRARequest

        from thinkedit.artifacts.adapter import write_adapter

        number = next(self._numbers)
        path = Path(self._scratch.name) / f"adapter-{number}"
        write_adapter(edit, Checkpoint(self.source.path).o_proj_weight, path, self.source.name)
        return LoRARequest(f"edit-{number}", number, str(path))

    def _reload(self, edit: Edit | None) -> None:
        if edit is None and not self._reloaded:
            return
        path = self.source.path
        if edit is not None:
            path = Path(self._scratch.name) / f"checkpoint-{next(self._numbers)}"
            write_edited(self.source.path, edit, path, link=True)
        self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(path)})
        self._reloaded = edit is not None

    def close(self) -> None:
        import gc

        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        cleanup_dist_env_and_memory()
        gc.collect()
        self._scratch.cleanup()

    # ---------------------------------------------------------------------------------------------------- generate

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        pending, engine = as_queue(requests), self.llm.llm_engine
        at_work: dict[str, Request] = {}
        try:
            while pending or at_work:
                while pending and len(at_work) < 2 * self.rows:
                    request = pending.popleft()
                    name = str(next(self._numbers))
                    prompt = {"prompt_token_ids": list(request.prompt_ids)}
                    engine.add_request(name, prompt, self._parameters(request, sampling), lora_request=self._lora)
                    at_work[name] = request
                for output in engine.step():
                    if output.finished:
                        made = output.outputs[0]
                        reason: Literal["stop", "length"] = "stop" if made.finish_reason == "stop" else "length"
                        yield Completion(at_work.pop(output.request_id).key, list(made.token_ids), reason)
        finally:
            if at_work:  # the caller went away
                engine.abort_request(list(at_work))

    def _parameters(self, request: Request, sampling: Sampling) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        room = self.context - len(request.prompt_ids)
        if room <= 0 or not request.prompt_ids:
            raise ThinkEditError(
                f"The prompt of {request.key} has {len(request.prompt_ids)} tokens; 1 to {self.context - 1} fit here."
            )
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=min(request.max_tokens or sampling.max_tokens, room),
            seed=request.seed,
            ignore_eos=True,  # the end tokens are ours, and all of them are in stop_token_ids
            stop_token_ids=None if sampling.ignore_eos else self.end_ids,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def _prepare_platform() -> bool:
    """Environment that vLLM reads when it is imported; gives whether it will run on the CPU."""
    if find_spec("vllm") is None:
        raise ThinkEditError(f"--engine vllm needs vLLM, which is not installed: {INSTALL}.\nOr use --engine transformers.")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    warnings.filterwarnings("ignore", module=r"vllm\.|torch\.jit")
    import torch

    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # starts in seconds, in this process
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    return on_cpu


def _architecture(source: ModelSource) -> str:
    from vllm import ModelRegistry

    names = read_config(source.path).get("architectures") or ["(none in config.json)"]
    if names[0] not in ModelRegistry.get_supported_archs():
        raise ThinkEditError(f"vLLM does not know the architecture {names[0]} of {source.name}. Use --engine transformers.")
    vllm_plugin.register()
    return str(names[0])


def _check_fits(source: ModelSource, architecture: str) -> None:
    """Raises where what is added to o_proj's or the MLP's output would not reach the residual stream as it is."""
    from thinkedit.architecture import probe_small

    if architecture.endswith("ForCausalLM") is False:
        raise ThinkEditError(f"{architecture} is no causal decoder; it cannot be steered or edited in vLLM.")
    probe_small(source)


def _load(settings: dict[str, Any], source: ModelSource) -> Any:
    from vllm import LLM

    try:
        return LLM(**settings)
    except Exception as error:  # vLLM fails in many ways; what it says is the best that is known
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ThinkEditError(
            f"vLLM cannot load {source.name}: {lines[0]}\n"
            "VLLM_LOGGING_LEVEL=INFO shows its log; --engine transformers runs without it."
        ) from error
