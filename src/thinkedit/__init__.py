"""ThinkEdit: find, steer and edit how long a reasoning model thinks (arXiv 2503.22048).

    from thinkedit import Run, generate, extract, steer, rank, edit_heads, evaluate, analyze

    with Run("tiny", out="runs/tiny") as run:
        generate(run)
        extract(run)
        ...

Everything here is loaded when it is first used, so that `import thinkedit` costs nothing. See docs/api.md.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thinkedit.directions import Direction, load_direction
    from thinkedit.edit import Edit, make_edit
    from thinkedit.errors import ThinkEditError, UsageError
    from thinkedit.pipeline.analyze import analyze
    from thinkedit.pipeline.edit import edit_heads
    from thinkedit.pipeline.evaluate import evaluate
    from thinkedit.pipeline.everything import Plan, everything
    from thinkedit.pipeline.extract import extract
    from thinkedit.pipeline.generate import generate
    from thinkedit.pipeline.heads import rank
    from thinkedit.pipeline.machine import MachineOptions
    from thinkedit.pipeline.run import Options, Run
    from thinkedit.pipeline.steer import steer
    from thinkedit.records import Record, read_records

# torch's threads would keep a core busy for milliseconds after each piece of work; two programs on the same cores slow each
# other down tenfold by that. This is a tenth of a millisecond, and counts where torch is not loaded yet.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_HOMES = {
    "Direction": "directions",
    "load_direction": "directions",
    "Edit": "edit",
    "make_edit": "edit",
    "ThinkEditError": "errors",
    "UsageError": "errors",
    "analyze": "pipeline.analyze",
    "edit_heads": "pipeline.edit",
    "evaluate": "pipeline.evaluate",
    "Plan": "pipeline.everything",
    "everything": "pipeline.everything",
    "extract": "pipeline.extract",
    "generate": "pipeline.generate",
    "rank": "pipeline.heads",
    "MachineOptions": "pipeline.machine",
    "Options": "pipeline.run",
    "Run": "pipeline.run",
    "steer": "pipeline.steer",
    "Record": "records",
    "read_records": "records",
}
__all__ = [
    "Direction",
    "Edit",
    "MachineOptions",
    "Options",
    "Plan",
    "Record",
    "Run",
    "ThinkEditError",
    "UsageError",
    "analyze",
    "edit_heads",
    "evaluate",
    "everything",
    "extract",
    "generate",
    "load_direction",
    "make_edit",
    "rank",
    "read_records",
    "steer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'thinkedit' has no attribute {name!r}")
    return getattr(import_module(f"thinkedit.{_HOMES[name]}"), name)
