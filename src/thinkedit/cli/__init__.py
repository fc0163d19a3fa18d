"""The command line: parses, calls, prints. Nothing else in the package knows the terminal."""

import atexit
import gc
import os
import sys


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 asked for something that makes no sense, 130 interrupted."""
    from thinkedit.cli.arguments import normalise
    from thinkedit.errors import ThinkEditError

    arguments, debug = normalise(sys.argv[1:])
    if arguments in ([], ["--help"], ["-h"]):
        from thinkedit.cli.overview import show_overview

        return show_overview()
    atexit.register(gc.freeze)  # at the end the collector would walk through all of torch for a second
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from thinkedit.cli.common import load_commands

        load_commands(arguments[0])(arguments, prog_name="thinkedit")
    except ThinkEditError as error:
        if debug:
            raise
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("Interrupted. What was finished is kept; the same command goes on from there.", 130)
    except OSError as error:
        if debug:
            raise
        fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}\n"
             "What was finished is kept; once that is mended, the same command goes on from there.", 1)  # fmt: skip
    except Exception as error:
        if debug:
            raise
        fail(f"Unexpected {type(error).__name__}: {error}\nThis is a fault of thinkedit; --debug shows where.", 1)


def fail(message: str, code: int) -> None:
    from thinkedit.plain_text import printable, redacted

    first, _, rest = printable(redacted(message)).partition("\n")
    print(f"Error: {first}" + (f"\n{rest}" if rest else ""), file=sys.stderr)
    raise SystemExit(code)
