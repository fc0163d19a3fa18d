"""Editing a checkpoint on disk against copying it: `thinkedit edit` as a user calls it, and `cp -r` of the same directory.

    python benchmarks/edit.py --shapes 1.5b [--rounds 5] [--dir /where/there/is/room]
    python benchmarks/edit.py --shapes 8b

A checkpoint of random numbers with the shapes of DeepSeek-R1-Distill-Qwen-1.5B (1.5b: one file of 3.6 GB) or
-Llama-8B (8b: four files, 16 GB), bfloat16, is made on the spot and deleted at the end. Each round does both, in
alternating order, each ending with everything on the disk. Before each the last output is deleted, everything is
synced and the base is read once, so that both find the same in memory and nothing waiting for the disk. Prints one JSON
line: `ratio` is the median over rounds of the seconds of the edit, start of the program included, over those of the copy;
`peak_mb` the largest resident memory. Both go into `results.json` as well.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import record

SHAPES = {
    "1.5b": {
        "like": "DeepSeek-R1-Distill-Qwen-1.5B",
        "files": 1,
        "config": {
            "model_type": "qwen2",
            "architectures": ["Qwen2ForCausalLM"],
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
        },
    },
    "8b": {
        "like": "DeepSeek-R1-Distill-Llama-8B",
        "files": 4,
        "config": {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128256,
        },
    },
}
BLOCK = 1 << 25  # bytes of random numbers that are written over and over, each time from another place
# Runs a command and prints the largest resident memory of it, in KB.
MEASURE = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=sys.stderr); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=sorted(SHAPES), default="1.5b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, default=None, help="where the checkpoints go (default: the temporary directory)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="thinkedit-benchmark-") as name:
        directory = Path(name)
        size = make_checkpoint(directory / "base", options.shapes)
        heads = make_inputs(directory, options.shapes)
        pairs, peaks = [], []
        for number in range(options.rounds + 1):
            seconds: dict[str, float] = {}
            for what in ("edit", "copy") if number % 2 else ("copy", "edit"):
                shutil.rmtree(directory / "out", ignore_errors=True)
                os.sync()
                read_once(directory / "base")
                start = time.perf_counter()
                if what == "copy":
                    subprocess.run(["cp", "-r", "--reflink=never", directory / "base", directory / "out"], check=True)
                else:
                    peaks.append(edit(directory, heads))
                os.sync()
                seconds[what] = time.perf_counter() - start
            if number:  # the first round only warms up
                pairs.append((seconds["edit"], seconds["copy"]))
        figures = {
            "name": f"edit against cp -r, {SHAPES[options.shapes]['like']} shapes, {size / 1e9:.1f} GB, {len(heads)} heads",
            "ratio": round(statistics.median(a / b for a, b in pairs), 3),
            "ratio_of": "seconds of `thinkedit edit` (start included) / seconds of `cp -r --reflink=never`, both with sync",
            "peak_mb": round(max(peaks) / 1e6, 1),
            "peak_of": "largest resident memory of the whole process",
            "edit_s": round(statistics.median(a for a, _ in pairs), 2),
            "copy_s": round(statistics.median(b for _, b in pairs), 2),
            "rounds": [[round(a, 2), round(b, 2)] for a, b in pairs],
        }
        print(json.dumps(figures), flush=True)
        what = f"{size / 1e9:.1f} GB, {len(heads)} heads"
        record(f"edit of a checkpoint ({options.shapes}) / cp -r", figures["ratio"], f"seconds; {what}", most=1.15)
        record(f"edit of a checkpoint ({options.shapes}): peak MB", figures["peak_mb"], what, most=400)


def read_once(directory: Path) -> None:
    buffer = bytearray(BLOCK)
    for path in sorted(directory.iterdir()):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def edit(directory: Path, heads: list[tuple[int, int]]) -> int:
    """Calls the program once; gives its peak of resident memory in bytes."""
    command = ["-m", "thinkedit", "edit", "--model", directory / "base", "--out", directory / "run", "--to", directory / "out"]
    command += ["--direction", directory / "direction.safetensors", "--heads", ",".join(f"{a}:{b}" for a, b in heads)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, *map(str, command)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return int(done.stdout) * 1024


def make_checkpoint(directory: Path, shapes: str) -> int:
    """Writes random bfloat16 numbers around 0.02 under the names of the model's tensors; gives their bytes."""
    directory.mkdir(parents=True)
    config = SHAPES[shapes]["config"]
    settings = {
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (directory / "config.json").write_text(json.dumps({**config, **settings, "hidden_act": "silu"}, indent=2))
    (directory / "tokenizer.json").write_text(json.dumps({"stands": "for a tokenizer"}))
    tensors = list(tensor_shapes(config).items())
    count = SHAPES[shapes]["files"]
    per_file = -(-len(tensors) // count)
    noise = np.random.default_rng(0)
    numbers = (noise.standard_normal(BLOCK // 2, dtype=np.float32) * 0.02).view(np.uint32) >> 16
    block = memoryview(numbers.astype(np.uint16).tobytes() * 2)
    weight_map, total = {}, 0
    for number in range(count):
        name = "model.safetensors" if count == 1 else f"model-{number + 1:05}-of-{count:05}.safetensors"
        header, offset = {}, 0
        for tensor, shape in tensors[number * per_file : (number + 1) * per_file]:
            size = 2 * int(np.prod(shape))
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
            weight_map[tensor] = name
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (directory / name).open("wb", buffering=0) as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for start in range(0, offset, BLOCK):
                shift = 2 * random.randrange(BLOCK // 2)
                file.write(block[shift : shift + min(BLOCK, offset - start)])
        total += offset
    if count > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def tensor_shapes(config: dict) -> dict[str, list[int]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    narrow = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    found = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}
    for layer in range(config["num_hidden_layers"]):
        parts = {
            "self_attn.q_proj.weight": [hidden, hidden],
            "self_attn.k_proj.weight": [narrow, hidden],
            "self_attn.v_proj.weight": [narrow, hidden],
            "self_attn.o_proj.weight": [hidden, hidden],
            "mlp.gate_proj.weight": [inner, hidden],
            "mlp.up_proj.weight": [inner, hidden],
            "mlp.down_proj.weight": [hidden, inner],
            "input_layernorm.weight": [hidden],
            "post_attention_layernorm.weight": [hidden],
        }
        if config["model_type"] == "qwen2":
            parts |= {f"self_attn.{side}_proj.bias": [hidden if side == "q" else narrow] for side in "qkv"}
        found |= {f"model.layers.{layer}.{name}": shape for name, shape in parts.items()}
    return found | {"model.norm.weight": [hidden], "lm_head.weight": [config["vocab_size"], hidden]}


def make_inputs(directory: Path, shapes: str) -> list[tuple[int, int]]:
    """A direction of random numbers beside the checkpoint; gives 4 % of the heads, drawn at random."""
    from safetensors.numpy import save_file

    config = SHAPES[shapes]["config"]
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    vectors = np.random.default_rng(1).standard_normal((layers, config["hidden_size"]), dtype=np.float32)
    save_file({"direction": vectors}, directory / "direction.safetensors", {"control": "attn"})
    everything = [(layer, head) for layer in range(layers) for head in range(heads)]
    return sorted(random.Random(0).sample(everything, max(1, round(0.04 * len(everything)))))


if __name__ == "__main__":
    main()
