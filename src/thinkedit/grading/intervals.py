r"""Inequalities in one variable as the intervals that they mean: `x < 2,x \ge 3` is `(-\infty,2)\cup[3,\infty)`."""

import re

RELATION = re.compile(r"(<|>|\\(?:le|ge|lt|gt|ne|neq)(?![a-zA-Z]))")
VARIABLE = re.compile(r"[a-zA-Z]|\\(?:theta|alpha|beta|lambda|mu|phi)")
CLOSED = (r"\le", r"\ge")


def as_intervals(text: str) -> str | None:
    """The union of intervals that a list of inequalities means, as with "or" between them; `None` for all else."""
    found = [_interval([piece.strip() for piece in RELATION.split(part)]) for part in text.split(",")]
    return r"\cup".join(one for one in found if one) if all(found) else None


def _interval(pieces: list[str]) -> str | None:
    """`pieces` are terms and the relations between them: one relation, or two that point the same way around the variable."""
    terms, relations = pieces[::2], pieces[1::2]
    if not all(terms) or any("=" in term for term in terms):
        return None
    if len(relations) == 1:
        if VARIABLE.fullmatch(terms[1]):
            terms.reverse()
            relations = [_turned(relations[0])]
        if not VARIABLE.fullmatch(terms[0]):
            return None
        relation, end = relations[0], terms[1]
        if relation.startswith(r"\ne"):
            return rf"(-\infty,{end})\cup({end},\infty)"
        if _rises(relation):
            return rf"(-\infty,{end}{']' if relation in CLOSED else ')'}"
        return rf"{'[' if relation in CLOSED else '('}{end},\infty)"
    if len(relations) == 2 and VARIABLE.fullmatch(terms[1]):
        if not _rises(relations[0]):
            terms.reverse()
            relations = [_turned(relation) for relation in reversed(relations)]
        if all(map(_rises, relations)):
            first, last = ("[" if relations[0] in CLOSED else "("), ("]" if relations[1] in CLOSED else ")")
            return f"{first}{terms[0]},{terms[2]}{last}"
    return None


def _rises(relation: str) -> bool:
    return relation in ("<", r"\le", r"\lt")


def _turned(relation: str) -> str:
    return {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\lt": r"\gt", r"\gt": r"\lt"}.get(relation, relation)
