"""How much is tried: a little, always the same, in `make test`; anew at every call, and much, in `make fuzz`."""

import os
from pathlib import Path

import fuzzing
from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
settings.register_profile("short", max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW)
settings.register_profile("long", max_examples=500, deadline=None, print_blob=True, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))


def pytest_terminal_summary(terminalreporter) -> None:
    if fuzzing.tally.total():
        words = f"{fuzzing.tally.total():,} inputs tried: " + ", ".join(f"{n:,} {what}" for what, n in fuzzing.tally.items())
        terminalreporter.write_line(words)
        if "FUZZ_TALLY" in os.environ:
            with Path(os.environ["FUZZ_TALLY"]).open("a") as file:
                file.write(f"{fuzzing.tally.total()}\n")
