"""The process in which math-verify runs, so that it can be killed: JSON lines in, JSON lines out, one pair a line."""

import json
import logging
import os
import resource
import signal
import sys
from functools import lru_cache


def serve(timeout: float, patience: float, memory: int) -> None:
    """Answers `["gold", "answer"]` with `true`, `false` or, where the answer cannot be parsed, `null`.

    It ends by SIGPROF after `timeout` seconds of processor time on one pair. The parent kills it after `patience` seconds
    by the clock; if the parent is gone, the alarm does. It may map `memory` bytes. It ends with stdin.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a library prints may look like an answer
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(3000)
    from math_verify import LatexExtractionConfig, parse, verify
    from sympy import S

    config = [LatexExtractionConfig()]

    @lru_cache(maxsize=4096)
    def read(expression: str) -> list:
        return parse(f"${expression}$", config, fallback_mode="no_fallback", parsing_timeout=None)

    def unbounded(parsed: list) -> bool:
        """Whether infinity or nan is in it; comparing those with numbers has given either answer."""
        return any(hasattr(e, "has") and e.has(S.Infinity, S.NegativeInfinity, S.ComplexInfinity, S.NaN) for e in parsed)

    def equal(gold: str, answer: str) -> bool | None:
        given = read(answer)
        if not given:
            return None
        wanted = read(gold)
        if unbounded(given) and not unbounded(wanted):
            return False
        return bool(verify(wanted, given, timeout_seconds=None, allow_set_relation_comp=True))

    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        pass  # not every system has the limit; the time limit still holds
    for ending in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(ending, signal.SIG_DFL)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, timeout)
        signal.setitimer(signal.ITIMER_REAL, patience + 5)
        try:
            verdict = equal(*json.loads(line))
        except MemoryError:
            os._exit(3)  # what is left of this process is not to be trusted
        except RecursionError:
            os._exit(3)
        except Exception:
            verdict = None
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        print(json.dumps(verdict), file=answers, flush=True)
