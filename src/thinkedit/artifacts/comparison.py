"""What was found between a base and another model, and what it amounts to: the same, an edit, or something else."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from thinkedit.artifacts.changes import HeadChange
from thinkedit.progress import counted

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class OtherChange:
    """A changed tensor that is no o_proj, or one that only one side has."""

    name: str
    what: str


@dataclass(slots=True)
class Comparison:
    """`files` lists differing files that shape the model; `cosine` maps a layer to |cos| of found and given direction."""

    kind: Literal["checkpoint", "adapter"]
    heads: list[HeadChange] = field(default_factory=list)
    others: list[OtherChange] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cosine: dict[int, float] = field(default_factory=dict)
    directions: "dict[int, Tensor]" = field(default_factory=dict)
    incomparable: str | None = None

    @property
    def verdict(self) -> Literal["identical", "edit", "other"]:
        if self.incomparable or self.others or self.files or not all(head.fits for head in self.heads):
            return "other"
        return "edit" if self.heads else "identical"

    @property
    def headline(self) -> str:
        if self.verdict == "identical":
            return "identical: the same weights, tokenizer and settings"
        if self.verdict == "edit":
            named = ", ".join(f"{head.layer}:{head.head}" for head in self.heads)
            return f"an edit of {counted(len(self.heads), 'head')}: {named}"
        return f"not a ThinkEdit edit: {self.reason}"

    @property
    def reason(self) -> str:
        if self.incomparable:
            return self.incomparable
        reasons = []
        unfit = [head for head in self.heads if not head.fits]
        if unfit:
            where = ", ".join(f"{head.layer}:{head.head}" for head in unfit[:8]) + (", ..." if len(unfit) > 8 else "")
            numbers = sum(head.numbers for head in unfit)
            reasons.append(
                f"the change of {counted(numbers, 'number')} in {len(unfit)} of {counted(len(self.heads), 'changed head')} "
                f"is no removal of one direction ({where})"
            )
        if self.others:
            names = ", ".join(other.name for other in self.others[:3]) + (", ..." if len(self.others) > 3 else "")
            differ = "differs" if len(self.others) == 1 else "differ"
            reasons.append(f"{counted(len(self.others), 'other tensor')} {differ} ({names})")
        if self.files:
            reasons.append(f"these files differ: {', '.join(self.files)}")
        return "; ".join(reasons)

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "kind": self.kind,
            "heads": [asdict(head) for head in self.heads],
            "other_tensors": [asdict(other) for other in self.others],
            "files": self.files,
            "notes": self.notes,
            "cosine_with_given": {str(layer): value for layer, value in self.cosine.items()},
        }
