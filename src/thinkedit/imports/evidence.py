"""Directories of imported evidence: laid out like runs, so that whatever reads a run's records reads them too."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinkedit.errors import ThinkEditError
from thinkedit.files import append_json_lines, exclusive, whole_file, write_json
from thinkedit.imports.pieces import Piece
from thinkedit.records import Record

STEPS = {"probe": "generate", "evaluate": "evaluate", "steer": "steer", "scan": "scan"}
FOLDERS = {"probe": "probe", "evaluate": "evaluate", "steer": "steer", "scan": "steer"}
UNNAMED = "imported"


@dataclass(frozen=True, slots=True)
class Written:
    """One directory with what was put into it."""

    directory: Path
    model: str
    pieces: list[Piece]


def write_evidence(pieces: Iterable[Piece], out: Path | None, command_line: str | None = None) -> list[Written]:
    """A directory for each model: `out` itself for a single one, else folders in it (default `imported/`).

    What a directory held before is kept; pieces for the same task and arm replace it. Raises ThinkEditError where a
    directory is a run of this program, in use, or of another model.
    """
    by_model: dict[str, list[Piece]] = {}
    pieces = list(pieces)
    named = list(dict.fromkeys(piece.model for piece in pieces if piece.model))
    for piece in pieces:  # a file that does not name its model belongs to the only one that is named
        by_model.setdefault(piece.model or (named[0] if len(named) == 1 else UNNAMED), []).append(piece)
    written = []
    for model, own in by_model.items():
        slug = model.replace("/", "--").strip(".") or UNNAMED
        directory = out if out and len(by_model) == 1 else (out or Path("imported")) / slug
        _write(directory, model, own, command_line)
        written.append(Written(directory, model, own))
    return written


def _write(directory: Path, model: str, pieces: list[Piece], command_line: str | None) -> None:
    with ExitStack() as stack:
        if not (directory / "run.json").is_file() and any(not path.name.startswith(".") for path in directory.glob("*")):
            raise ThinkEditError(f"{directory} holds other files; give an empty or a new directory with --out.")
        stack.enter_context(exclusive(directory))
        manifest = _manifest(directory, model)
        joined = [_joined(group) for group in _groups(pieces)]
        _check_names(joined)
        # Until the end: a kill leaves evidence that the same import goes on with, and that nothing takes for whole.
        manifest["unfinished"] = sorted({STEPS[piece.role] for piece in pieces if piece.role in STEPS})
        write_json(directory / "run.json", manifest)
        for piece in joined:
            if piece.role == "direction":
                _write_direction(piece, directory, model)
            else:
                _note(manifest, piece, _write_records(piece, directory))
        sources = manifest["imported"]["sources"]
        manifest["imported"]["sources"] = list(dict.fromkeys([*sources, *(str(piece.source) for piece in pieces)]))
        if command_line and command_line not in manifest["commands"]:
            manifest["commands"].append(command_line)
        del manifest["unfinished"]
        write_json(directory / "run.json", manifest)


def _manifest(directory: Path, model: str) -> dict[str, Any]:
    from thinkedit.pipeline.documents import read_manifest

    path = directory / "run.json"
    if not path.is_file():
        from thinkedit.pipeline.manifest import versions

        return {
            "model": model,
            "fingerprint": None,
            "imported": {"sources": []},
            "steps": {},
            "commands": [],
            "versions": versions(),
        }
    manifest = read_manifest(directory)
    if "imported" not in manifest:
        raise ThinkEditError(f"{directory} is a run of this program, not imported evidence; give another --out.")
    if manifest["model"] != model:
        raise ThinkEditError(
            f"{directory} holds the evidence of {manifest['model']}, not of {model}; give another --out, "
            f"or --model {manifest['model']} if they are the same."
        )
    return manifest


def _groups(pieces: list[Piece]) -> list[list[Piece]]:
    groups: dict[tuple[str, ...], list[Piece]] = {}
    for piece in pieces:
        groups.setdefault((piece.role, piece.task, piece.arm, piece.setting, piece.control or ""), []).append(piece)
    return list(groups.values())


def _joined(pieces: list[Piece]) -> Piece:
    """Files of the same task and arm as one: graded answers before ungraded dumps of the same answers."""
    if len(pieces) == 1 or pieces[0].role == "direction":
        return pieces[-1]
    graded = [piece for piece in pieces if any(record.correct is not None for record in piece.records)]
    pieces = graded or pieces
    seen: dict[tuple[str, int], Path] = {}
    records: list[Record] = []
    for piece in pieces:
        for record in piece.records:
            if record.key in seen:
                raise ThinkEditError(
                    f"{seen[record.key]} and {piece.source} both answer question {record.question_id}, sample {record.sample}, "
                    f"as {piece.arm} on {piece.task}.\nImport them apart, with --label (base, edited, ...) or --model."
                )
            seen[record.key] = piece.source
        records += piece.records
    first = pieces[0]
    return Piece(
        first.source, first.role, first.kind, first.model, first.arm, first.task, first.setting, first.control, records
    )


def _check_names(pieces: list[Piece]) -> None:
    for piece in pieces:
        if any("|" in name or "\n" in name for name in (piece.task, piece.arm)):
            raise ThinkEditError(
                f"{piece.source}: a task or label must not hold '|' or a line break: {piece.task}, {piece.arm}."
            )


def _write_records(piece: Piece, directory: Path) -> dict[str, Any]:
    name = "-".join(part for part in (piece.task, piece.setting or (piece.arm if piece.role == "evaluate" else "")) if part)
    safe = "".join(c if c.isalnum() or c in "-._+" else "-" for c in name)
    path = directory / FOLDERS[piece.role] / f"{safe}.jsonl"
    with whole_file(path) as temporary:
        append_json_lines(temporary, (record.as_dict() for record in piece.records))
    samples = 1 + max((record.sample for record in piece.records), default=0)
    return {"path": str(path.relative_to(directory)), "samples": samples, "only": None}


def _note(manifest: dict[str, Any], piece: Piece, entry: dict[str, Any]) -> None:
    step = manifest["steps"].setdefault(STEPS[piece.role], {"settings": {}})
    step["settings"] |= {"imported from": piece.kind}
    if piece.role == "probe":
        step["file"] = entry
    else:
        step.setdefault("files", {})[f"{piece.task}|{piece.setting or piece.arm}"] = entry


def _write_direction(piece: Piece, directory: Path, model: str) -> None:
    from thinkedit.directions import load_direction

    direction = load_direction(piece.source)
    direction.about["model"] = model
    direction.save(directory / f"direction-{direction.control}.safetensors")
