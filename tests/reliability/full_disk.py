"""Gives every step of the method a disk that is too small for it, then room, and compares the end with an undisturbed run.

    unshare --user --map-root-user --mount python tests/reliability/full_disk.py --disks 20 --steps extract analyze

The disk is a file system in memory, so this wants the right to mount one: root's, or that of a namespace of its own as
above. It holds what the step begins with and a random part of what the step adds. The step must get to its end or say in
one message that there is no space; once there is room, the same command must end as it would have with room from the
first. Exit code 1 if anything was lost, doubled, changed or said otherwise.
"""

import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torture import OTHERWISE, compare, every_step, finish, lost, start, whole_lines

PAGE = os.sysconf("SC_PAGE_SIZE")
ROOM = 256 << 20  # bytes; more than any step needs


@contextmanager
def disk(place: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at `place`."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def resize(place: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)


def used(place: Path) -> int:
    room = os.statvfs(place)
    return (room.f_blocks - room.f_bfree) * room.f_frsize


def pages(root: Path) -> int:
    """What the files below take."""
    return sum(-(-path.stat().st_size // PAGE) for path in root.rglob("*") if path.is_file())


def said_well(status: int, said: str) -> bool:
    """Whether a step got to its end, or one message names the disk."""
    if status == 0:
        return True
    return os.waitstatus_to_exitcode(status) == 1 and "No space left on device" in said and "Traceback" not in said


def run_out(step: str, disks: int, before: Path, after: Path, _seconds: float, generator: random.Random) -> Counter[str]:
    """So many disks, each with a part of the room that the step takes."""
    count: Counter[str] = Counter()
    added = pages(after) - pages(before)
    for _ in range(disks):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder).resolve() / "place"
            with disk(place, ROOM):
                shutil.copytree(before, place, dirs_exist_ok=True)
                begun, kept = used(place), whole_lines(place)
                resize(place, begun + PAGE * generator.randint(0, 2 + added * 5 // 4))  # a file is written beside the old one
                _, status = os.waitpid(start(step, place), 0)
                said = (place.parent / "said.txt").read_text()
                count["disks"] += 1
                count["full"] += status != 0
                if not said_well(status, said):
                    count[OTHERWISE] += 1
                    print(f"  {step} ended with {os.waitstatus_to_exitcode(status)}:\n{said}", flush=True)
                count["lost"] += lost(kept, whole_lines(place))
                kept = whole_lines(place)
                resize(place, ROOM)
                finish(step, place)
                count["lost"] += lost(kept, whole_lines(place))
                count += compare(step, place, before, after)
    return count


if __name__ == "__main__":
    every_step(__doc__, "disks", 50, "full", run_out)
