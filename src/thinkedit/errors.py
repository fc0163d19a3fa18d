"""The one exception that reaches a user: what was wrong, what was expected, what to do."""


class ThinkEditError(Exception):
    """A failure that is the input's or the machine's, not this program's. `message` is one or a few plain lines."""

    exit_code = 1


class Interrupted(ThinkEditError):
    """The user stopped it."""

    exit_code = 130


class UsageError(ThinkEditError):
    """The command itself asks for something that makes no sense."""

    exit_code = 2
