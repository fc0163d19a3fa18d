"""What a user waits for: `--help`, the first answer, the whole method on the embedded model.

    python benchmarks/start.py

Seconds of whole processes, start included; the least of several for the short ones.
"""

import argparse
import subprocess
import sys
import tempfile
import time

from figures import record


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    record("thinkedit --help, s", min(seconds("--help") for _ in range(7)), "the least of 7", most=0.3)
    record("thinkedit steer --help, s", min(seconds("steer", "--help") for _ in range(7)), "the least of 7")
    first = min(seconds("generate", "--limit", "1") for _ in range(3))
    record("thinkedit generate --limit 1, s", first, "all of the command, the least of 3", most=6)
    record("thinkedit run --quick, s", seconds("run", "--quick"), "2 cores", most=45)
    record("thinkedit run, s", seconds("run"), "2 cores", most=180)


def seconds(*arguments: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "thinkedit", *arguments], cwd=folder, capture_output=True, check=True)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
