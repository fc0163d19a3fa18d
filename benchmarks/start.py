"""What a user waits for: `--help`, the first answer, the whole method on the embedded model.

    python benchmarks/start.py

Seconds of whole processes, start included; the least of several for the short ones.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import record


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    record("thinkedit --help, s", min(seconds("--help") for _ in range(7)), "the least of 7", most=0.3)
    record("thinkedit steer --help, s", min(seconds("steer", "--help") for _ in range(7)), "the least of 7")
    answers, ends = zip(*(first_answer() for _ in range(3)), strict=True)
    record("thinkedit generate --limit 1, s to its answer", min(answers), "until it is on the disk, the least of 3", most=6)
    record("thinkedit generate --limit 1, s", min(ends), "all of the command, the least of 3")
    record("thinkedit run --quick, s", seconds("run", "--quick"), "2 cores", most=45)
    record("thinkedit run, s", seconds("run"), "2 cores", most=180)


def seconds(*arguments: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "thinkedit", *arguments], cwd=folder, capture_output=True, check=True)
        return time.perf_counter() - start


def first_answer() -> tuple[float, float]:
    """Seconds until `generate --limit 1` has written its answer, and until it has ended."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "thinkedit", "generate", "--limit", "1"]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answered = None
        while process.poll() is None:
            if answered is None and any(file.stat().st_size for file in Path(folder).glob("runs/*/probe/*.jsonl")):
                answered = time.perf_counter() - start
            time.sleep(0.005)
        ended = time.perf_counter() - start
        if process.returncode or answered is None:
            sys.exit("thinkedit generate --limit 1 failed here; run it by hand to see why.")
        return answered, ended


if __name__ == "__main__":
    main()
