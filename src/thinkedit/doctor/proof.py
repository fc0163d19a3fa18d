"""Steering and editing tried out, on the model's own weights where they fit: each changes what it should and nothing else."""

import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from thinkedit.architecture import Decoder, small_model
from thinkedit.doctor.check import Check
from thinkedit.edit import left_along, make_edit
from thinkedit.engines.base import Control
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.errors import ThinkEditError
from thinkedit.models import ModelSource

Streams = list[dict[str, Tensor]]
ALPHA = 0.75
SMALL_LAYERS = 3
BEFORE = {
    "attn": ("input", "heads"),
    "mlp": ("input", "heads", "attn", "mid"),
}  # what a layer computes before the sublayer's end


def on_real_weights(source: ModelSource, device: str, dtype: str | None) -> Iterator[Check]:
    engine = TransformersEngine(source, [], device, dtype)
    try:
        yield from prove(engine, "its own weights")
    finally:
        engine.close()


def on_random_weights(source: ModelSource) -> Iterator[Check]:
    """The same on a few random layers of its configuration, for models that do not fit here."""
    with tempfile.TemporaryDirectory(prefix="thinkedit-doctor-") as directory:
        model = small_model(source, SMALL_LAYERS)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
        model.save_pretrained(directory)
        engine = TransformersEngine(ModelSource(source.name, Path(directory)), [], "cpu")
        try:
            yield from prove(
                engine, f"{SMALL_LAYERS} random layers of its configuration, since its own weights do not fit or are not here"
            )
        finally:
            engine.close()


def prove(engine: TransformersEngine, on: str) -> Iterator[Check]:
    """Steering by attn and mlp, and editing, each with the number that shows it."""
    decoder = engine.decoder
    before = checksums(decoder)
    for control in ("attn", "mlp"):
        try:
            decoder.module(0, control)  # type: ignore[arg-type]
        except ThinkEditError as error:
            yield Check(f"steering {control}", "warning", str(error), "--control attn works.")
            continue
        wrong, said = steering_faults(engine, control, before)  # type: ignore[arg-type]
        yield _verdict(f"steering {control}", wrong, f"{said} (on {on})")
    wrong, said = editing_faults(engine, before)
    yield _verdict("editing", wrong, f"{said} (on {on})")


def _verdict(name: str, wrong: list[str], said: str) -> Check:
    if wrong:
        return Check(
            name, "fails", "; ".join(wrong), "Results with this model would be wrong. Please report it with this table."
        )
    return Check(name, "ok", said)


def steering_faults(engine: TransformersEngine, control: Control, before: dict[str, int]) -> tuple[list[str], str]:
    """What steering one layer does that it should not, and what it was seen to do."""
    decoder = engine.decoder
    layer = len(decoder.layers) // 2
    ids = probe_ids(decoder)
    _, plain = decoder.observe(ids)
    vector = _like(plain[layer][control])
    wrong = []
    try:
        engine.steer({(at, control): 0.0 * vector for at in range(len(decoder.layers))})
        nothing = decoder.observe(ids)[1]
        engine.steer({(layer, control): ALPHA * vector})
        moved = decoder.observe(ids)[1]
    finally:
        engine.steer(None)
    after = decoder.observe(ids)[1]
    if not _same(plain, nothing):
        wrong.append("alpha = 0 changes the numbers")
    if not _same(plain[:layer], moved[:layer]) or not _same([plain[layer]], [moved[layer]], BEFORE[control]):
        wrong.append(f"steering layer {layer} changes what comes before it")
    off = _off(moved[layer][control], plain[layer][control], ALPHA * vector)
    if not off <= 1:
        wrong.append(f"what is added to layer {layer} differs from alpha v by {off:.1f} roundings")
    if layer + 1 < len(decoder.layers) and torch.equal(plain[-1]["post"], moved[-1]["post"]):
        wrong.append("the steered stream does not reach the last layer")
    if not _same(plain, after):
        wrong.append("the model is not what it was after steering")
    now = checksums(decoder)
    if any(now[name] != sum_ for name, sum_ in before.items()):
        wrong.append("weights or own biases are not what they were after steering")
    own = sum(name.endswith(("o_proj.bias", "down_proj.bias")) for name in before)
    kept = f", {own} own biases came back" if own else ""
    return (
        wrong,
        f"alpha 0 is bit for bit nothing; layer {layer} moved by alpha v, within {off:.2f} roundings, nothing before it{kept}",
    )


def editing_faults(engine: TransformersEngine, before: dict[str, int]) -> tuple[list[str], str]:
    """What editing one head does that it should not, and what it was seen to do."""
    decoder = engine.decoder
    layer, head = len(decoder.layers) // 2, engine.shape.heads // 2
    weight = decoder.projections[layer].weight
    name = next(name for name, parameter in decoder.model.named_parameters() if parameter is weight)
    ids = probe_ids(decoder)
    plain, whole = decoder.observe(ids)[1], weight.detach().clone()
    vector = _like(plain[layer]["attn"]).double().cpu().numpy()
    edit = make_edit([(layer, head)], {layer: vector}, engine.shape.head_dim)  # type: ignore[arg-type]
    wrong = []
    try:
        engine.apply(edit)
        edited, moved, now = decoder.projections[layer].weight.detach().clone(), decoder.observe(ids)[1], checksums(decoder)
    finally:
        engine.apply(None)
    columns = torch.from_numpy(edit.columns(layer)).to(weight.device)
    others = torch.ones(weight.shape[1], dtype=torch.bool, device=weight.device)
    others[columns] = False
    v = torch.from_numpy(edit.directions[layer]).to(weight.device)
    block = edited[:, columns].double()
    roundings = float((v @ block).norm() / (torch.finfo(weight.dtype).eps * block.norm()))
    changed = {other for other, sum_ in before.items() if now[other] != sum_}
    if not roundings <= 1:
        wrong.append(f"head {head} of layer {layer} still writes along v ({roundings:.1f} roundings)")
    if not torch.equal(edited[:, others], whole[:, others]):
        wrong.append("columns of other heads changed")
    if changed != {name}:
        wrong.append(f"{len(changed - {name})} other tensors changed" if changed - {name} else "nothing changed")
    if not _same(plain[:layer], moved[:layer]) or not _same([plain[layer]], [moved[layer]], BEFORE["attn"]):
        wrong.append(f"editing layer {layer} changes what comes before it")
    if checksums(decoder) != {**now, name: before[name]}:
        wrong.append("the weights are not what they were after the edit was taken back")
    left = left_along(edit, layer, whole, edited)
    return wrong, f"head {head} of layer {layer} writes {left:.1g} of what it wrote along v, all else is bit for bit the same"


def probe_ids(decoder: Decoder) -> Tensor:
    """Six tokens [1, 6], spread over the vocabulary."""
    weight = decoder.head.weight
    return torch.arange(1, 7, device=weight.device)[None] * 7919 % weight.shape[0]


def checksums(decoder: Decoder) -> dict[str, int]:
    """CRC-32 of the bytes of every parameter, by name."""
    return {
        name: zlib.crc32(parameter.detach().contiguous().view(torch.uint8).cpu().numpy().data)
        for name, parameter in decoder.model.named_parameters()
    }


def _like(output: Tensor) -> Tensor:
    """A fixed random vector [hidden], float64, of the size of a sublayer's output [rows, tokens, hidden]."""
    vector = torch.randn(output.shape[-1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (vector * output.double().abs().mean().cpu()).to(output.device)


def _off(moved: Tensor, plain: Tensor, added: Tensor) -> float:
    """How far moved - plain is from what was added, in roundings of numbers of that size."""
    difference = (moved.double() - plain.double() - added).abs().max()
    return float(difference / (2 * torch.finfo(moved.dtype).eps * moved.double().abs().max().clamp_min(1e-300)))


def _same(first: Streams, second: Streams, names: tuple[str, ...] | None = None) -> bool:
    return all(torch.equal(one[name], two[name]) for one, two in zip(first, second, strict=True) for name in names or one)
