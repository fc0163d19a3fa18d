"""Makes one spelling of the several that people know: lists with spaces, underscores, the paper's option names."""

# Options that take several values, written after one another (or comma-separated, or repeated).
NUMBERS = {"--direction-weight", "--n-heads", "--strength"}
LISTS = NUMBERS | {"--dataset", "--control", "--benchmarks"}
WITH_NUMBERS = {"steer", "evaluate"}  # commands in which the numbers are lists; elsewhere they are single values
RENAMED = {"--alpha": "--direction-weight", "--layer": "--layers"}
CONTROLS = {"thinking_length_attn": "attn", "thinking_length_mlp": "mlp"}


def normalise(arguments: list[str]) -> tuple[list[str], bool]:
    """The arguments as the parser wants them, and whether --debug was among them."""
    out: list[str] = []
    current: str | None = None
    debug = False
    lists = LISTS if set(arguments[:1]) <= WITH_NUMBERS else LISTS - NUMBERS
    for place, argument in enumerate(arguments):
        if argument == "--debug":
            debug = True
        elif argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument.partition("=")
            name = name.replace("_", "-")
            name = RENAMED.get(name, name)
            if name == "--vllm":
                out += ["--engine", "vllm"]
                current = None
            elif name == "--ray" and not equals and not _is_address(arguments[place + 1 : place + 2]):
                out += [name, "local"]
                current = None
            elif name in lists:
                current = name
                if equals:
                    out += _values(name, value)
                elif not _is_value(name, arguments[place + 1 : place + 2]):
                    out.append(name)  # the parser says that a value is missing
            else:
                out.append(name + equals + value)
                current = None
        elif current is not None and _is_value(current, [argument]):
            out += _values(current, argument)
        else:
            out.append(argument)
            current = None
    return out, debug


def _is_address(following: list[str]) -> bool:
    return any(text in ("auto", "local") or (":" in text and text[:1] != "-") for text in following)


def _is_value(name: str, following: list[str]) -> bool:
    return any(_is_number(text) or (name not in NUMBERS and text[:1] != "-") for text in following)


def _values(name: str, text: str) -> list[str]:
    values = [value for value in text.split(",") if value]
    return [part for value in values for part in (name, CONTROLS.get(value, value))]


def _is_number(text: str) -> bool:
    try:
        [float(part) for part in text.split(",")]
    except ValueError:
        return False
    return True
