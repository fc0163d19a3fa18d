"""Pushing: what would be uploaded is shown, what is none of this program's is refused, and the hub gets just that."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from thinkedit.artifacts.adapter import write_adapter
from thinkedit.artifacts.checkpoint import Checkpoint, write_edited
from thinkedit.artifacts.hub import plan_push
from thinkedit.edit import make_edit
from thinkedit.errors import UsageError


class Hub(ThreadingHTTPServer):
    """A hub on this machine that speaks what an upload needs, and remembers what it was told."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.created, self.files, self.tokens = [], {}, set()
        self.refuse = None

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self):
        self.answer({"id": "me/model", "sha": "0" * 40, "siblings": []})

    def do_PUT(self):
        data = self.body()
        self.server.files[self.path.rsplit("/", 1)[1]] = data
        self.answer({})

    def do_POST(self):
        hub, data = self.server, self.body()
        hub.tokens.add(self.headers.get("Authorization"))
        if hub.refuse:
            return self.answer({"error": "no"}, hub.refuse)
        if self.path == "/api/repos/create":
            hub.created.append(json.loads(data))
            return self.answer({"url": f"{hub.address}/me/model", "name": "me/model"})
        if "/preupload/" in self.path:
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith("safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(data)["files"]
            ]
            return self.answer({"files": files})
        if self.path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(data)
            objects = [{**o, "actions": {"upload": {"href": f"{hub.address}/put/{o['oid']}"}}} for o in asked["objects"]]
            return self.answer({"transfer": "basic", "objects": objects})
        if "/commit/" in self.path:
            hub.commit = [json.loads(line) for line in data.splitlines()]
            address = f"{hub.address}/me/model/commit/{'0' * 40}"
            return self.answer({"success": True, "commitOid": "0" * 40, "commitUrl": address})
        return self.answer({})


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def edited(checkpoint, tmp_path):
    base = checkpoint("llama")
    edit = make_edit([(0, 1)], torch.ones(3, 64), 32)
    write_edited(base, edit, tmp_path / "run" / "edited")
    write_adapter(edit, Checkpoint(base).o_proj_weight, tmp_path / "run" / "adapter", "owner/base")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"steps": {}}))
    (tmp_path / "run" / "edited" / "stray.jsonl").write_text("{}")
    (tmp_path / "run" / "edited" / "run.txt").write_text("x")
    return tmp_path / "run" / "edited"


def push(*arguments, **environment):
    """In a process of its own: the hub's address is read when its library is loaded."""
    names = {**os.environ, "HF_TOKEN": "hf_made_up", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "thinkedit", "push", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=names | environment, stdin=subprocess.DEVNULL, timeout=60, check=False
    )


def test_a_push_uploads_the_model_and_nothing_else(hub, edited):
    done = push(edited, "--repo", "me/model", "--yes", HF_ENDPOINT=hub.address)
    assert done.returncode == 0, done.stderr
    assert hub.created[0]["name"] == "model"
    assert hub.created[0]["visibility"] == "private", hub.created
    assert hub.tokens == {"Bearer hf_made_up"}
    regular = {line["value"]["path"] for line in hub.commit if line["key"] == "file"}
    large = {line["value"]["path"]: line["value"]["oid"] for line in hub.commit if line["key"] == "lfsFile"}
    here = {path.name for path in edited.iterdir()}
    assert regular | set(large) == here - {"stray.jsonl"}
    weights = (edited / "model.safetensors").read_bytes()
    assert large == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    assert hub.files[hashlib.sha256(weights).hexdigest()] == weights
    for words in ("model.safetensors", "files", "private", "not uploaded: stray.jsonl", "uploaded to"):
        assert words in done.stdout, words


def test_an_adapter_can_be_public(hub, edited):
    done = push(edited.parent / "adapter", "--repo", "me/model", "--public", "--yes", HF_ENDPOINT=hub.address)
    assert done.returncode == 0, done.stderr
    assert hub.created[0].get("visibility") == "public", hub.created
    assert "public" in done.stdout


def test_nothing_goes_out_without_a_yes(hub, edited):
    done = push(edited, "--repo", "me/model", HF_ENDPOINT=hub.address)
    assert done.returncode == 2
    assert "model.safetensors" in done.stdout  # the plan was shown
    assert "--yes" in done.stderr
    assert not hub.created


def test_a_no_is_a_no(edited, thinkedit, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    done = thinkedit("push", edited, "--repo", "me/model")
    assert done.code == 1
    assert "Nothing was uploaded" in done.error


def test_failures_are_plain_messages(hub, edited, tmp_path):
    call = (edited, "--repo", "me/model", "--yes")
    hub.refuse = 403
    done = push(*call, HF_ENDPOINT=hub.address)
    assert done.returncode == 1
    assert "may not write" in done.stderr
    offline = push(*call, HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "HF_HUB_OFFLINE" in offline.stderr
    anonymous = push(*call, HF_TOKEN="", HF_HOME=str(tmp_path), HF_ENDPOINT=hub.address)
    assert anonymous.returncode == 1
    assert "hf auth login" in anonymous.stderr
    for one in (done, offline, anonymous):
        assert "Traceback" not in one.stderr


def test_runs_and_foreign_directories_are_refused(edited, checkpoint, tmp_path):
    with pytest.raises(UsageError, match="run with its records"):
        plan_push(edited.parent, "me/model", True)
    with pytest.raises(UsageError, match="no model of this program"):
        plan_push(checkpoint("llama"), "me/model", True)
    with pytest.raises(UsageError, match="no directory"):
        plan_push(tmp_path / "nowhere", "me/model", True)
    for name in ("model", "a/b/c", "a b/c", "../x"):
        with pytest.raises(UsageError, match="user/name"):
            plan_push(edited, name, True)
