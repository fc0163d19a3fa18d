"""Real servers on loopback, started as a user would start them, and one made of faults."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TRANSFORMERS = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(
    command: list[str], port: int, home: Path, cwd: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen]:
    """A server process that answers on /health; killed at the end."""
    (home / "hub").mkdir(parents=True, exist_ok=True)
    quiet = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (home / "server.log").open("a") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=cwd, env=os.environ | quiet | environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 400
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended: {(home / 'server.log').read_text()[-2000:]}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # vLLM's engine is a process of its own and would outlive its server
        process.wait()


def transformers_server(model: Path, port: int) -> list[str]:
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    return [sys.executable, "-c", TRANSFORMERS, "serve", str(model), *options]


@contextmanager
def faulty(answer: Callable[[str, dict], tuple[int, object]]) -> Iterator[str]:
    """A server that answers with `answer(path, body)`: (status, JSON or bytes). For faults that no real one makes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(*answer(self.path, {}))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._send(*answer(self.path, body))

        def _send(self, status, value):
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
