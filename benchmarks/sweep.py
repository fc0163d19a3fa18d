"""A steering sweep and a layer scan, against one prompt at a time with the model loaded again for every setting.

    python benchmarks/sweep.py [--questions 200]

On the embedded model. Ours is done in full: 2 controls x 17 strengths, and every layer with two signs, each with all
questions, in one load. The other way is measured on some settings and questions and scaled up: a process that has
torch loaded already loads the model, hooks it and calls `model.generate` on one prompt after the other.
"""

import argparse
import time

import torch
from figures import record

from thinkedit.chat import Chat
from thinkedit.config import read_shape
from thinkedit.engines.base import Biases, Request, Sampling
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.loading import load_tokenizer
from thinkedit.models import find_model
from thinkedit.tasks import load_questions

SAMPLING = Sampling(256, temperature=0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--sample", type=int, default=8, help="questions of the other way, in three settings")
    options = parser.parse_args()
    source = find_model("tiny")
    shape = read_shape(source.path)
    chat = Chat(load_tokenizer(source))
    questions = load_questions("tiny", "dev", limit=options.questions)
    requests = [Request(i, tuple(chat.prompt_ids(q.text)), i) for i, q in enumerate(questions)]
    vector = torch.linspace(-1, 1, shape.hidden, dtype=torch.float64)
    layers = range(shape.layers)
    sweep: list[Biases] = [
        {(layer, control): 0.01 * step * vector for layer in layers} for control in ("attn", "mlp") for step in range(-8, 9)
    ]
    scan: list[Biases] = [{(layer, "attn"): sign * 0.05 * vector} for layer in layers for sign in (-1, 1)]

    def ours(settings: list[Biases]) -> float:
        start = time.perf_counter()
        engine = TransformersEngine(source, chat.end_ids, device="cpu")
        for biases in settings:
            engine.steer(biases)
            for _ in engine.generate(requests, SAMPLING):
                pass
        return time.perf_counter() - start

    def one_by_one(biases: Biases) -> float:
        """Seconds of one setting: the load, and the sampled questions scaled to all of them."""
        from transformers import AutoModelForCausalLM

        start = time.perf_counter()
        model = AutoModelForCausalLM.from_pretrained(source.path).eval()
        for (layer, control), bias in biases.items():
            block = model.model.layers[layer]
            module = block.self_attn.o_proj if control == "attn" else block.mlp.down_proj
            module.register_forward_hook(lambda _m, _a, out, bias=bias.float(): out + bias)
        loaded = time.perf_counter() - start
        start = time.perf_counter()
        for request in requests[: options.sample]:
            ids = torch.tensor([request.prompt_ids])
            model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=256, do_sample=True, temperature=0.6)
        return loaded + (time.perf_counter() - start) * len(requests) / min(options.sample, len(requests))

    for name, settings in (("steering sweep", sweep), ("layer scan", scan)):
        sampled = [one_by_one(settings[at]) for at in (0, len(settings) // 2, len(settings) - 1)]
        theirs = sum(sampled) / len(sampled) * len(settings)
        seconds = ours(settings)
        what = f"one prompt at a time, a load a setting: {theirs:,.0f} s; ours {seconds:,.0f} s for {len(settings)} settings"
        record(f"{name}, {len(requests)} questions: times faster", theirs / seconds, what, least=20)
    for count in (50, 100, 200):
        start = time.perf_counter()
        engine = TransformersEngine(source, chat.end_ids, device="cpu")
        for biases in scan:
            engine.steer(biases)
            for _ in engine.generate(requests[:count], SAMPLING):
                pass
        record(f"layer scan: seconds with {count} questions", time.perf_counter() - start, "the number of questions")


if __name__ == "__main__":
    main()
