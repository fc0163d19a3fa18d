"""What one file of others holds: records of one model in one role, or one direction."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from thinkedit.records import Record
from thinkedit.report.evidence import BASE

Role = Literal["probe", "evaluate", "steer", "scan", "direction"]
EDITED = "edited"
PREFIX = "ThinkEdit-"  # of the edited models' names in the published project


@dataclass(frozen=True, slots=True)
class Piece:
    """`model` is the base model's name, None where the file does not say; `arm` is base or edited.

    `setting` tells steering files of one model apart; `control` is that of a direction or of steering. `notes` say what
    had to be guessed or was left out.
    """

    source: Path
    role: Role
    kind: str
    model: str | None = None
    arm: str = BASE
    task: str = ""
    setting: str = ""
    control: str | None = None
    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def model_and_arm(name: str) -> tuple[str, str]:
    """`ThinkEdit-deepseek-qwen-1.5b` is the edited arm of deepseek-qwen-1.5b; hub owners of edited models are dropped."""
    bare = name.rpartition("/")[2] if PREFIX in name else name
    return (bare.removeprefix(PREFIX), EDITED) if bare.startswith(PREFIX) else (name, BASE)
