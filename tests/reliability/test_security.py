"""Nothing that is read is run, nothing listens, nothing secret is kept, nothing is written elsewhere."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from servers import faulty

from thinkedit.plain_text import redacted
from thinkedit.records import Record

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "thinkedit").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Calls that run what they are given, or open a door. `model.eval()` is a mode, not Python's eval.
NEVER = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "marshal.loads", "yaml.load", "pty.spawn"}
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "shelve",
    "marshal",
    "socketserver",
    "http.server",
    "xmlrpc",
    "telnetlib",
}
# Who may start processes, each with a list of arguments: workers that compare answers, the trial of a template.
STARTERS = {"grading/processes.py", "template_trial.py"}
# What training our own embedded model does, by hand, on nothing that was downloaded.
TRAINING = {"tiny/train.py"}


def name_of(node) -> str:
    """`a.b.c` of a call's function; empty where it is something else."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def found(text: str, place: str = "x.py") -> list[str]:
    """What in a source file breaks the rules."""
    wrong = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            wrong += [f"imports {name}" for name in names if name in MODULES]
            if "subprocess" in names and place not in STARTERS:
                wrong.append("starts processes")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"(?<!\d)0\.0\.0\.0(?!\d)", node.value):
            wrong.append("names every interface")
        if not isinstance(node, ast.Call):
            continue
        called, given = name_of(node.func), {word.arg: word.value for word in node.keywords}
        if called in NEVER or called.endswith(("pickle.load", "pickle.loads", ".listen", ".bind")):
            wrong.append(f"calls {called}")
        if called.endswith("torch.load") and not _is(given.get("weights_only"), True):
            wrong.append("loads with pickle")
        if called.endswith("np.load") and "allow_pickle" in given and not _is(given["allow_pickle"], False):
            wrong.append("loads with pickle")
        if "shell" in given and not _is(given["shell"], False):
            wrong.append("uses a shell")
        if "trust_remote_code" in given and not _is(given["trust_remote_code"], False):
            wrong.append("trusts remote code")
    return wrong


def _is(node, value) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "thinkedit")))
def test_nothing_that_is_read_is_run(path):
    place = path.relative_to(ROOT / "src" / "thinkedit").as_posix()
    assert place in TRAINING or found(path.read_text(), place) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from http.server import HTTPServer",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "eval(text)",
        "exec(text)",
        "import subprocess",
        "run('ls', shell=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "server.listen()",
        "serve('0.0.0.0')",
    ],
)
def test_the_rules_see_what_they_forbid(text):
    assert found(text)


def test_every_import_is_a_declared_dependency():
    """So that the ranges below, and the audit, are about all that is used."""
    declared = {Requirement(line).name.replace("_", "-").lower() for line in PROJECT["dependencies"]}
    optional = {Requirement(line).name.lower() for lines in PROJECT["optional-dependencies"].values() for line in lines}
    used = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                used.add(node.module.split(".")[0])
    known = packages_distributions()
    foreign = used - set(sys.stdlib_module_names) - {"thinkedit"}
    homes = {name: {home.replace("_", "-").lower() for home in known.get(name, [name])} for name in foreign}
    assert [name for name, own in homes.items() if not own & (declared | optional)] == []


def test_what_is_installed_is_within_the_ranges():
    for line in PROJECT["dependencies"]:
        wanted = Requirement(line)
        assert wanted.specifier, f"{wanted.name} has no range"
        assert version(wanted.name) in wanted.specifier, line


# --------------------------------------------------------------------------------------------------------- secrets

TOKEN, KEY, PASSWORD = "hf_AbCdEfGhIjKlMnOpQrStUvWx", "sk-proj-0123456789abcdefghij", "hunter2secret"


def test_secrets_are_taken_out_of_texts(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "aplainword")
    said = f"thinkedit x --base-url https://me:{PASSWORD}@host/v1?api_key={KEY}&b=1 {TOKEN} aplainword"
    assert redacted(said) == "thinkedit x --base-url https://***@host/v1?api_key=***&b=1 *** ***"
    assert (
        redacted("task-force, risk-averse, a@b.c, http://host:8000/v1") == "task-force, risk-averse, a@b.c, http://host:8000/v1"
    )


@pytest.mark.parametrize("status", [200, 401])
def test_no_secret_reaches_a_file_or_a_message(checkpoint, thinkedit, tmp_path, monkeypatch, status):
    """Against a server that answers, and one that refuses and repeats all that it was sent."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def answer(path, body):
        if status != 200:
            return status, {"error": {"message": f"no {KEY} {TOKEN} for http://me:{PASSWORD}@host {body}"}}
        choice = {"index": 0, "text": "so</think> 1", "finish_reason": "stop"}
        return 200, {"id": "x", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}

    (tmp_path / "q.jsonl").write_text('{"question": "What is 1?", "answer": "1"}\n')
    out = tmp_path / "run"
    with faulty(answer) as url:
        named = url.replace("://", f"://me:{PASSWORD}@")
        done = thinkedit(
            "generate", "--model", checkpoint("llama"), "--out", out, "--dataset", tmp_path / "q.jsonl", "--max-tokens", 8,
            "--base-url", named, "--served-model", "m",
        )  # fmt: skip
    assert done.code == (0 if status == 200 else 1), done.error
    if status == 200:
        assert thinkedit("analyze", "--out", out).code == 0
        assert "***@" in json.loads((out / "run.json").read_text())["commands"][0]
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file()).decode("utf-8", "replace")
    for secret in (TOKEN, KEY, PASSWORD):
        assert secret not in written
        assert secret not in done.out + done.error


def test_a_record_has_no_place_for_a_secret():
    assert not [name for name in Record.__slots__ if re.search("key|token$|secret|password|url|env|host|user", name)]


# ----------------------------------------------------------------------------------------------------- files, doors

# Written outside of the run by libraries, once: matplotlib's list of fonts, and the hub's own cache.
CACHES = re.compile(r"^(home/)?(\.cache|\.config)(/(matplotlib|huggingface|fontconfig)(/.*)?)?$|^tmp/matplotlib-")
WATCHED = """
import json, socket, sys
def refuse(self, *_): raise SystemExit("something listens")
socket.socket.listen = refuse
from thinkedit.cli import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["thinkedit", *command, "--out", "run"]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
"""


def listing(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


def test_files_are_written_in_the_run_alone_and_nothing_listens(tmp_path):
    for name in ("home", "tmp", "cwd", "data"):
        (tmp_path / name).mkdir()
    rows = [{"question": f"Bob has {i} stickers. How many?", "response": "6 so " * (3 + i) + "</think> 4"} for i in range(30)]
    (tmp_path / "data" / "r.json").write_text(json.dumps(rows))
    before = listing(tmp_path)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_", "MPL"))}
    environment = kept | {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "HF_HUB_OFFLINE": "1"}
    commands = [
        ["extract", "--responses", "../data/r.json"],
        ["heads"],
        ["edit", "--n-heads", "1"],
        ["evaluate", "--limit", "2", "--n-samples", "1", "--max-tokens", "4", "--placebos", "0"],
        ["analyze"],
    ]
    call = [sys.executable, "-c", WATCHED, json.dumps(commands)]
    done = subprocess.run(call, cwd=tmp_path / "cwd", env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    new = listing(tmp_path) - before
    outside = {name for name in new if not name.startswith("cwd/run/") and name != "cwd/run" and not CACHES.search(name)}
    assert outside == set()
    assert "cwd/run/report/index.html" in new


def test_ranges_have_both_ends_where_a_library_breaks_its_own_promises():
    """An upper end for all that is below 1.0 or is told to change often; pyarrow's releases are all major ones."""
    for line in PROJECT["dependencies"]:
        wanted = Requirement(line)
        ends = {clause.operator[0] for clause in wanted.specifier}
        assert ends == {">", "<"} or wanted.name == "pyarrow", line
        try:
            version(wanted.name)
        except PackageNotFoundError:
            pytest.fail(f"{wanted.name} is not installed")
