"""Kills every step of the method at random moments, lets it go on, and compares the end with an uninterrupted run.

    python tests/reliability/torture.py --kills 50 --steps generate extract

Five kills in a row, then the step may end; what it leaves must be what an uninterrupted one leaves, bit for bit. Records
may come in another order, and one in 1,000 may differ by a near-tie, which is shown (near_ties.py). Activations may differ
by the noise of their forward pass. What was computed from such records or activations is then compared with what an
uninterrupted run makes of the same ones. Every other kill is followed by a cut in a last line, which a power failure
would leave. Exit code 1 if anything was lost, doubled or changed.
"""

import argparse
import json
import os
import pkgutil
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
sys.path.insert(0, str(Path(__file__).parents[1]))

import foreign
import numpy as np
from matplotlib.image import imread
from near_ties import noise_between

import thinkedit
from thinkedit.artifacts.tensor_map import open_arrays
from thinkedit.cli import main as command_line
from thinkedit.pipeline.run import Run
from thinkedit.records import parse_record

ANSWERS = ("--max-tokens", "48", "--limit", "12")
STEPS: dict[str, tuple[str, ...]] = {
    "generate": ("generate", "--limit", "150"),
    "extract": ("extract",),
    "steer": ("steer", "--direction-weight", "-0.2", "0.2", *ANSWERS),
    "scan": ("steer", "--layers", "each", "--control", "attn", *ANSWERS),
    "heads": ("heads",),
    "edit": ("edit",),
    "adapter": ("edit", "--adapter"),
    "export": ("export", "--steer", "0.1"),
    "evaluate": ("evaluate", "--n-samples", "2", "--placebos", "1", *ANSWERS),
    "analyze": ("analyze",),
    "regrade": ("regrade",),
    "import": ("import", "others"),
    "run": ("run", "--probes", "100", "--questions", "4", "--n-samples", "2", "--placebos", "1", "--max-tokens", "48"),
}
ALONE = ("import", "run")  # begin with nothing; the others each go on from the step before
NEEDED = ("generate", "extract", "heads", "edit")  # by later steps, killed or not
IN_A_ROW = 5  # kills before one start is let through
NEAR_TIES = 1e-3  # most of the records that may differ by one
NOISE = 1e-5  # of the largest activation; a matrix product's last bits hang on where its numbers lie in memory
ACTIVATIONS = Path("run/activations.safetensors")
TIME = re.compile(rb'\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d+|(?<="date": )[\d.]+')  # lm-eval's files say when they were written
OTHERWISE = "ended otherwise"
FAULTS = ("lost", "doubled", "changed", "files that differ", "processes left behind", OTHERWISE)


def preload() -> None:
    """Imports all that a step may need: children are forked with it, so that kills hit work instead of imports."""
    for module in pkgutil.walk_packages(thinkedit.__path__, "thinkedit."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):
                import_module(module.name)
    for name in ("modeling_llama", "tokenization_llama"):
        with suppress(ImportError):
            import_module(f"transformers.models.llama.{name}")


def start(step: str, place: Path) -> int:
    """The step's command in a process of its own; what it says goes to a file."""
    sys.stdout.flush()
    if process := os.fork():
        return process
    code = 1
    try:
        os.setsid()
        os.chdir(place)
        os.environ["TMPDIR"] = str(place.parent)
        tempfile.tempdir = None
        said = os.open(place.parent / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.argv = ["thinkedit", *STEPS[step], "--out", "run"]
        command_line()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(process: int) -> bool:
    """Whether a child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def finish(step: str, place: Path) -> float:
    """Runs a step to its end; gives its seconds."""
    began = time.monotonic()
    _, status = os.waitpid(start(step, place), 0)
    if status:
        raise SystemExit(f"{step} ended with status {status} in {place}:\n{(place.parent / 'said.txt').read_text()}")
    return time.monotonic() - began


def kill(step: str, place: Path, seconds: float, generator: random.Random) -> tuple[bool, float]:
    """Kills a step at a random moment, or as soon after it as a file comes or grows; gives whether it hit, and when."""
    process, began = start(step, place), time.monotonic()
    until = began + generator.uniform(0, seconds)
    at_event, before = generator.random() < 0.5, None
    while not ended(process) and time.monotonic() < until:
        time.sleep(0.005)
    while at_event and not ended(process) and time.monotonic() < until + seconds:
        now = sizes(place)
        if before not in (None, now):
            break
        before = now
        time.sleep(0.001)
    hit, when = not ended(process), time.monotonic() - began
    if hit:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if not hit and status:
        raise SystemExit(f"{step} ended with status {status} in {place}:\n{(place.parent / 'said.txt').read_text()}")
    return hit, when


def left_behind(place: Path, patience: float = 10) -> int:
    """Processes that are still at work in a place some seconds after the one that started them was killed."""
    until = time.monotonic() + patience
    while True:
        found = 0
        for entry in Path("/proc").glob("[0-9]*/cwd"):
            with suppress(OSError):
                found += entry.readlink() == place
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)


def sizes(place: Path) -> dict[str, int]:
    found = {}
    for folder, _, names in os.walk(place):
        for name in names:
            with suppress(FileNotFoundError):
                found[f"{folder}/{name}"] = os.stat(f"{folder}/{name}").st_size
    return found


def tear(place: Path, before: dict[Path, bytes], generator: random.Random) -> None:
    """Cuts the last line of a file somewhere that has grown."""
    grown = sorted(path for path, data in whole_lines(place).items() if len(data) > len(before.get(path, b"")))
    if grown:
        path = place / generator.choice(grown)
        data = path.read_bytes()
        path.write_bytes(data[: generator.randint(data.rfind(b"\n", 0, -1) + 1, len(data))])


def whole_lines(place: Path) -> dict[Path, bytes]:
    """What is kept of each records file, but for a torn last line. A file that has not taken its name yet is none."""
    paths = [path for path in (place / "run").glob("*/*.jsonl") if not path.name.startswith(".")]
    found = {path.relative_to(place): path.read_bytes() for path in paths}
    return {path: data[: data.rfind(b"\n") + 1] for path, data in found.items()}


def lost(before: dict[Path, bytes], now: dict[Path, bytes]) -> int:
    """Lines that were whole before and are gone; a file may be replaced by one with as many."""
    return sum(max(0, data.count(b"\n") - now.get(path, b"").count(b"\n")) for path, data in before.items())


def keyed(path: Path) -> dict[tuple[str, int], list[dict]]:
    found: dict[tuple[str, int], list[dict]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault((row["question_id"], row["sample"]), []).append(row)
    return found


def files(root: Path) -> dict[str, Path]:
    """All files of a run by name, without the time that is in some names."""
    paths = [path for path in (root / "run").rglob("*") if path.is_file() and path.name != ".lock"]
    return {TIME.sub(b"0", str(path.relative_to(root)).encode()).decode(): path for path in paths}


def compare_records(place: Path, reference: Path) -> Counter[str]:
    """Counts records lost, doubled and changed, and those that differ by a near-tie."""
    count: Counter[str] = Counter()
    different = []
    ours, theirs = files(place), files(reference)
    for name in [name for name in ours.keys() & theirs.keys() if name.count("/") == 2 and name.endswith(".jsonl")]:
        found, wanted = keyed(ours[name]), keyed(theirs[name])
        count["records"] += len(wanted)
        count["doubled"] += sum(len(rows) - 1 for rows in found.values())
        count["lost"] += len(wanted.keys() - found.keys())
        count["changed"] += len(found.keys() - wanted.keys())
        different += [
            (found[key][0], wanted[key][0]) for key in found.keys() & wanted.keys() if found[key][0] != wanted[key][0]
        ]
    if different:
        with Run(None, place / "run") as run:
            for one, other in different:
                noise = noise_between(run, parse_record(one), parse_record(other))
                count["changed" if noise is None else "near-ties"] += 1
                what = "no near-tie" if noise is None else f"a near-tie: noise of {noise:g} in the logits makes both"
                print(f"  {one['question_id']}, sample {one['sample']}, {one['control'] or one['edit'] or 'base'}: {what}")
    return count


def compare_files(place: Path, reference: Path) -> int:
    """How many files differ in more than the order of their lines and the time of writing."""
    ours, theirs = files(place), files(reference)
    different = {name for name in ours.keys() & theirs.keys() if content(ours[name]) != content(theirs[name])}
    for name in sorted(ours.keys() ^ theirs.keys()):
        print(f"  only in {'this' if name in ours else 'the uninterrupted one'}: {name}")
    for name in sorted(different):
        print(f"  differs: {name}, {where(ours[name], theirs[name])}")
    return len((ours.keys() ^ theirs.keys()) | different)


def content(path: Path) -> bytes:
    """What a file says: the order of records and of the entries of an object says nothing."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(json.loads(TIME.sub(b"0", data)), sort_keys=True).encode()
    return b"\n".join(sorted(data.split(b"\n"))) if path.suffix == ".jsonl" else data


def where(ours: Path, theirs: Path) -> str:
    """Where two files begin to differ, so that a difference explains itself."""
    if ours.suffix == ".png":
        found, wanted = imread(ours), imread(theirs)
        if found.shape != wanted.shape:
            return f"a picture of {found.shape}, not {wanted.shape}"
        apart = np.abs(found - wanted).max(axis=-1)
        return f"{(apart > 0).sum()} pixels, by {apart.max():.3g} at most"
    one, other = content(ours), content(theirs)
    if ours.suffix == ".json":
        for path, value, wanted in differences(json.loads(one), json.loads(other)):
            return f"{path}: {value!r}, not {wanted!r}"
    place = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"from byte {place:,}: {one[place : place + 80]!r}, not {other[place : place + 80]!r}"


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The leaves in which two JSON values differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from differences(ours.get(key), theirs.get(key), f"{path}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(one, other, f"{path}/{place}")
    elif ours != theirs:
        yield path, ours, theirs


def noise_in_activations(place: Path, reference: Path) -> bool:
    """Whether the activations differ, and only as far as two forward passes may; any other difference is a file's."""
    ours, theirs = place / ACTIVATIONS, reference / ACTIVATIONS
    if not (ours.is_file() and theirs.is_file()) or ours.read_bytes() == theirs.read_bytes():
        return False
    (found, about), (wanted, wanted_about) = open_arrays(ours), open_arrays(theirs)
    same = about == wanted_about and found.keys() == wanted.keys()
    if not same or any(found[name].shape != wanted[name].shape for name in wanted):
        return False
    most = max(
        float(np.abs(found[name] - array.astype(np.float64)).max() / np.abs(array).max()) for name, array in wanted.items()
    )
    print(f"  activations differ by {most:.1g} of the largest")
    return most < NOISE


def compare(step: str, place: Path, before: Path, after: Path) -> Counter[str]:
    count = compare_records(place, after)
    count["noise"] += noise_in_activations(place, after)
    if count["near-ties"] or count["noise"]:  # what an uninterrupted run makes of the records and activations as they are
        after = Path(shutil.copytree(before, place.parent / "again"))
        for path in [*(place / "run").glob("*/*.jsonl"), place / ACTIVATIONS]:
            target = after / path.relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                shutil.copyfile(path, target)
        finish(step, after)
    count["files that differ"] += compare_files(place, after)
    return count


def torture(step: str, kills: int, before: Path, after: Path, seconds: float, generator: random.Random) -> Counter[str]:
    """Rounds of kills, each from the state before the step to its end, until `kills` have hit."""
    count: Counter[str] = Counter()
    while count["kills"] < kills:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(shutil.copytree(before, Path(folder).resolve() / "place"))
            for attempt in range(min(IN_A_ROW, kills - count["kills"])):
                kept = whole_lines(place)
                hit, when = kill(step, place, seconds, generator)
                if not hit:  # it got to its end: from the beginning again, and perhaps faster than thought
                    seconds = min(seconds, when) if attempt == 0 else seconds
                    break
                count["kills"] += 1
                count["processes left behind"] += left_behind(place)
                count["lost"] += lost(kept, whole_lines(place))
                if generator.random() < 0.5:
                    tear(place, kept, generator)
            kept = whole_lines(place)
            finish(step, place)
            count["lost"] += lost(kept, whole_lines(place))
            count += compare(step, place, before, after)
            count["rounds"] += 1
    return count


def states(steps: Collection[str]) -> Iterator[tuple[str, Path, Path, float]]:
    """For each of some steps, uninterrupted: what was there before it and after it, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        nothing = Path(folder).resolve() / "nothing" / "place"
        foreign.archive(nothing / "others")
        state = nothing
        for step in STEPS:
            if step not in steps and step not in NEEDED:
                continue
            before = nothing if step in ALONE else state
            if step == "regrade":
                before = Path(shutil.copytree(state, nothing.parents[1] / "ungraded" / "place"))
                ungrade(before)
            after = Path(shutil.copytree(before, nothing.parents[1] / step / "place"))
            seconds = finish(step, after)
            state = state if step in ALONE else after
            if step in steps:
                yield step, before, after, seconds


def ungrade(place: Path) -> None:
    """Takes the verdict from every other record, so that there is something to grade again."""
    for path in (place / "run").glob("*/*.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows[::2]:
            row |= {"answer": None, "correct": None, "verdict": "not graded"}
        path.write_text("".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows), "utf-8")


def every_step(description: str | None, what: str, often: int, also: str, trial: Callable[..., Counter[str]]) -> None:
    """The command line of a harness: `trial(step, times, before, after, seconds, generator)` of each step, `what` so often.

    Ends the program, with 1 where anything was lost, doubled, changed or ended otherwise than it should.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(f"--{what}", dest="times", type=int, default=often, help=f"{what} a step (default {often})")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--seed", type=int, default=None, help="of all that is random (default: another one each time)")
    asked = parser.parse_args()
    began, total = time.monotonic(), Counter[str]()
    preload()
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    generator = random.Random(seed)

    def figures(count: Counter[str]) -> str:
        return ", ".join(f"{count[name]:,} {name}" for name in (also, "records", "near-ties", "noise", *FAULTS))

    for step, before, after, seconds in states(asked.steps):
        found = trial(step, asked.times, before, after, seconds, generator)
        print(f"{step}: {found[what]:,} {what}, {figures(found)}; {seconds:.1f} s undisturbed", flush=True)
        total += found
    minutes = (time.monotonic() - began) / 60
    print(f"{total[what]:,} {what} in {len(asked.steps)} steps, {figures(total)}; {minutes:.0f} minutes")
    raise SystemExit(any(total[fault] for fault in FAULTS) or total["near-ties"] > NEAR_TIES * total["records"])


if __name__ == "__main__":
    every_step(__doc__, "kills", 50, "rounds", torture)
