"""Step 4, the heads: which of them write the unwanted end of the direction, with a heat map."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from thinkedit.activations import load_activations
from thinkedit.edit import Head
from thinkedit.files import content_hash, write_json
from thinkedit.heads import Suppress, head_contributions, rank_heads
from thinkedit.models import default_heads
from thinkedit.pipeline.run import Run
from thinkedit.pipeline.steer import find_direction


@dataclass(frozen=True, slots=True)
class HeadScores:
    """`contributions` [layers, heads]; `ranking` holds all heads, the largest contribution first."""

    contributions: Tensor
    ranking: list[tuple[Head, float]]


def rank(run: Run, suppress: Suppress = "short") -> HeadScores:
    """Writes `heads.json` and `heads.png` from the activations and the attn direction; no forward pass."""
    direction = find_direction(run, "attn")
    side = run.manifest.needs("extract")["short" if suppress == "short" else "long"]
    activations = load_activations(run.directory / "activations.safetensors")
    contributions = head_contributions(
        activations.heads, np.asarray(side), run.o_proj_weight, direction.vectors, run.shape.head_dim, suppress
    )
    contributions = contributions.float().double()  # last bits hang on where the product finds its numbers in memory
    ranking = rank_heads(contributions)
    rows = [{"layer": layer, "head": head, "contribution": value} for (layer, head), value in ranking]
    run.manifest.begin("heads")
    write_json(run.directory / "heads.json", rows)
    from thinkedit.report.figures import draw_heads

    best = [head for head, _ in ranking[: default_heads(run.source.name, run.shape)]]
    draw_heads(contributions.numpy(), best, run.directory / "heads.png")
    run.manifest.note("heads", {"suppress": suppress}, identity=content_hash(rows))
    return HeadScores(contributions, ranking)
