"""Brings the card of an edited model or adapter up to date with what its run has measured since."""

from pathlib import Path
from typing import Any

from thinkedit.artifacts.card import figures_table, with_figures, without_paths
from thinkedit.artifacts.checkpoint import CARD, MARK
from thinkedit.files import read_object, whole_file, write_json
from thinkedit.pipeline.documents import MANIFEST, as_written, read_manifest
from thinkedit.pipeline.edit import OUTPUTS, REPRODUCE, edit_summary


def refresh_cards(run: Path) -> None:
    """The cards of the edited model and the adapter that lie in a run's directory."""
    for name in OUTPUTS:
        refresh_card(run / name)


def refresh_card(directory: Path) -> bool:
    """Puts the figures of the run that `directory` lies in into its README.md; whether there were any of this very edit."""
    run_file, mark, card = directory.resolve().parent / MANIFEST, directory / MARK, directory / CARD
    if not (run_file.is_file() and mark.is_file() and card.is_file()):
        return False
    run, record = read_manifest(run_file.parent), read_object(mark)
    with as_written(mark):
        return _refreshed(directory, run, record)


def _refreshed(directory: Path, run: dict[str, Any], record: dict[str, Any]) -> bool:
    made = (run.get("steps", {}).get("edit") or {}).get("identity")
    if made is None or made != record.get("identity"):
        return False
    strength = record["strength"]
    strengths = set(strength.values()) if isinstance(strength, dict) else {strength}
    summary = edit_summary(directory.resolve().parent, [(layer, head) for layer, head in record["heads"]], strengths)
    table = figures_table(summary) if summary else None
    if table is None:
        return False
    card = directory / CARD
    text = with_figures(card.read_text(encoding="utf-8"), table)
    with whole_file(card) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if (directory / REPRODUCE).is_file():
        commands = [without_paths(command) for command in run.get("commands", [])]
        write_json(directory / REPRODUCE, {**read_object(directory / REPRODUCE), "commands": commands})
    return True
