"""Kills every step of the method at random moments, lets it go on, and compares the end with an uninterrupted run.

    python tests/reliability/torture.py --kills 50 --steps generate extract

A record that differs from the reference counts as changed, near-tie or not. Exit code 1 if anything was lost, doubled
or changed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SMALL = ("--limit", "24", "--temperature", "0.6")
STEPS: dict[str, tuple[str, ...]] = {
    "generate": ("generate", "--limit", "300"),
    "extract": ("extract",),
    "steer": ("steer", "--direction-weight", "-0.2", "0", "0.2", *SMALL),
    "scan": ("steer", "--layers", "each", "--control", "attn", *SMALL),
    "heads": ("heads",),
    "edit": ("edit",),
    "evaluate": ("evaluate", "--n-samples", "3", "--placebos", "1", "--limit", "24"),
    "analyze": ("analyze",),
    "regrade": ("regrade",),
    "run": ("run", "--probes", "300", "--questions", "16", "--n-samples", "2", "--placebos", "1"),
}
IN_A_ROW = 3  # kills before one start is let through
UNEQUAL = {".lock", "run.json"}  # holds commands in the order in which they came to an end
PICTURES = {".png", ".html"}


def start(step: str, place: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "thinkedit", *STEPS[step], "--out", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=place, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)


def finish(step: str, place: Path) -> float:
    """Runs a step to its end; gives its seconds."""
    began = time.monotonic()
    if code := start(step, place).wait():
        raise SystemExit(f"{step} ended with exit code {code} in {place}")
    return time.monotonic() - began


def kill(step: str, place: Path, seconds: float, generator: random.Random) -> bool:
    """Kills a step at a random moment, or as soon as a file of it comes or grows; false if it ended before."""
    process = start(step, place)
    until = time.monotonic() + generator.uniform(0, seconds)
    at_event, before = generator.random() < 0.5, sizes(place)
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    while at_event and process.poll() is None and sizes(place) == before and time.monotonic() < until + seconds:
        time.sleep(0.002)
    hit = process.poll() is None
    if hit:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return hit


def sizes(place: Path) -> dict[str, int]:
    found = {}
    for folder, _, names in os.walk(place):
        for name in names:
            try:
                found[f"{folder}/{name}"] = os.stat(f"{folder}/{name}").st_size
            except FileNotFoundError:
                continue
    return found


def whole_lines(place: Path) -> dict[Path, bytes]:
    """What a kill has left of each records file, but for a torn last line."""
    found = {path.relative_to(place): path.read_bytes() for path in (place / "run").glob("*/*.jsonl")}
    return {path: data[: data.rfind(b"\n") + 1] for path, data in found.items()}


def compare(place: Path, reference: Path) -> Counter[str]:
    """Counts records lost, doubled and changed, and files that differ."""
    count: Counter[str] = Counter()
    ours, theirs = (
        {path.relative_to(root) for path in (root / "run").rglob("*") if path.is_file()} for root in (place, reference)
    )
    for path in sorted(ours ^ theirs):
        print(f"  only in one of the two: {path}")
        count["files"] += 1
    for path in sorted(ours & theirs):
        if path.suffix == ".jsonl":
            found, wanted = keyed(place / path), keyed(reference / path)
            count["doubled"] += sum(len(rows) - 1 for rows in found.values())
            count["lost"] += len(wanted.keys() - found.keys())
            count["changed"] += sum(found[key][0] != wanted.get(key, [None])[0] for key in found)
            count["records"] += len(wanted)
        elif path.name in UNEQUAL or path.suffix in PICTURES:
            continue
        elif (place / path).read_bytes() != (reference / path).read_bytes():
            print(f"  differs: {path}")
            count["files"] += 1
    return count


def keyed(path: Path) -> dict[tuple[str, int], list[dict]]:
    found: dict[tuple[str, int], list[dict]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault((row["question_id"], row["sample"]), []).append(row)
    return found


def torture(step: str, kills: int, before: Path, after: Path, seconds: float, generator: random.Random) -> Counter[str]:
    """Rounds of kills, each from the state before the step to its end, until `kills` have hit."""
    count: Counter[str] = Counter()
    while count["kills"] < kills:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(shutil.copytree(before, Path(folder) / "place"))
            for _ in range(min(IN_A_ROW, kills - count["kills"])):
                kept = whole_lines(place)
                count["kills"] += kill(step, place, seconds, generator)
                now = whole_lines(place)
                count["lost"] += sum(not now.get(path, b"").startswith(data) for path, data in kept.items())
            kept = whole_lines(place)
            finish(step, place)
            now = whole_lines(place)
            count["lost"] += sum(not now.get(path, b"").startswith(data) for path, data in kept.items())
            count += compare(place, after)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="kills a step")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    generator, total = random.Random(asked.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        states = Path(folder)
        state = states / "none"
        state.mkdir()
        wanted = [step for step in STEPS if step in asked.steps]
        last = max((i for i, step in enumerate(STEPS) if step in wanted and step != "run"), default=-1)
        for step in [*list(STEPS)[: last + 1], *(["run"] if "run" in wanted else [])]:
            before = states / "none" if step == "run" else state
            after = Path(shutil.copytree(before, states / step))
            seconds = finish(step, after)
            state = after
            if step in wanted:
                found = torture(step, asked.kills, before, after, seconds, generator)
                print(f"{step}: {dict(found)}, {seconds:.1f} s uninterrupted", flush=True)
                total += found
    bad = sum(total[name] for name in ("lost", "doubled", "changed", "files"))
    print(
        f"{total['kills']} kills in {len(wanted)} steps, {total['records']:,} records compared: {total['lost']} lost, "
        f"{total['doubled']} doubled, {total['changed']} changed; {total['files']} files differ"
    )
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
