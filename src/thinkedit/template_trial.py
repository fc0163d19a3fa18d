"""Whether a chat template comes to an end: tried out in a process with little time and memory.

A template is a program that comes with a model. transformers runs it in a sandbox that keeps it from the machine, but not
from looping, or from building a text that fills the memory. Nothing inside of a process can stop that reliably, so
a plain question is rendered once in another one, which needs jinja2 alone (a tenth of a second).
"""

import json
import subprocess
import sys
from functools import lru_cache

SECONDS = 5  # of computing; of waiting, in which the system may be slow to start a process, it has more
WAIT = 60
MEMORY = 1 << 30  # bytes of address space
WORKED, REFUSED, NO_MEMORY = 0, 3, 4  # exit codes of the trial


@lru_cache(maxsize=64)
def fault(template: str, special: tuple[tuple[str, str], ...] = ()) -> str | None:
    """What is wrong with how a template ends, None where it ends. `special` are the tokenizer's tokens that it may use.

    A template that fails ends too; the caller sees how when it renders it.
    """
    given = json.dumps({"template": template, "special": dict(special)})
    try:
        ended = subprocess.run(
            [sys.executable, "-P", __file__], input=given.encode(), capture_output=True, timeout=WAIT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it was still at work after {WAIT} seconds"
    if ended.returncode == NO_MEMORY or ended.returncode < 0:
        return f"it needs more than {SECONDS} seconds or {MEMORY >> 30} GB"
    return None


def _trial() -> int:
    """Runs in the other process: reads the template, renders it, and says how that ended."""
    import resource

    given = json.loads(sys.stdin.buffer.read())
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}`, which marks what the assistant wrote."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Scope:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": lambda form: form}
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        messages = [{"role": "user", "content": "What is 1 + 1?"}]
        environment.from_string(given["template"]).render(messages=messages, add_generation_prompt=True, **given["special"])
    except MemoryError:
        return NO_MEMORY
    except Exception:  # how it fails is shown where it is rendered in earnest
        return REFUSED
    return WORKED


if __name__ == "__main__":
    sys.exit(_trial())
