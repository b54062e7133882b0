"""A JupyterLab of the tests' own, seen through Debian's Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client import BlockingKernelClient

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TOKEN = "test"


def find_browser() -> str | None:
    """The first browser of Chromium's kind on this machine."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


@contextmanager
def running_lab(folder: Path) -> Iterator[str]:
    """JupyterLab on `folder`, with no settings of the user's; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {
        name: str(folder / ".jupyter" / name.lower()) for name in ("CONFIG_DIR", "RUNTIME_DIR", "DATA_DIR")
    }
    environment = {key: value for key, value in os.environ.items() if key != "SD4MATCH_HEADLESS"}
    environment |= {f"JUPYTER_{name}": path for name, path in own.items()}
    environment |= {
        f"JUPYTERLAB_{name}_DIR": f"{folder}/.jupyter/{name}" for name in ("SETTINGS", "WORKSPACES")
    }
    environment |= {"IPYTHONDIR": f"{folder}/.ipython", "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += [f"--port={port}", "--ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}"]
    news = folder / ".jupyter" / "SETTINGS" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    log = (folder / "lab.log").open("wb")
    lab = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(lambda: _answers(f"{address}/api?token={TOKEN}"), 120, f"JupyterLab did not start: {log.name}")
        yield address
    finally:
        lab.terminate()
        try:
            lab.wait(20)
        except subprocess.TimeoutExpired:
            lab.kill()
        log.close()


class Kernel:
    """The notebook's own kernel, asked beside the browser."""

    def __init__(self, folder: Path) -> None:
        (connection,) = (folder / ".jupyter" / "runtime_dir").glob("kernel-*.json")
        self._client = BlockingKernelClient(connection_file=str(connection))
        self._client.load_connection_file()
        self._client.start_channels()
        self._client.wait_for_ready(60)

    def ask(self, expression: str) -> Any:
        """The value of an expression, sent as JSON."""
        code = f"__import__('json').dumps({expression})"
        reply = self._client.execute(
            "", user_expressions={"value": code}, reply=True, timeout=120, store_history=False
        )
        value = reply["content"]["user_expressions"]["value"]
        assert value["status"] == "ok", value
        import ast
        import json

        return json.loads(ast.literal_eval(value["data"]["text/plain"]))

    def run(self, code: str) -> None:
        """Run a statement."""
        reply = self._client.execute(code, reply=True, timeout=600, store_history=False)
        assert reply["content"]["status"] == "ok", reply["content"]

    def close(self) -> None:
        """Let go of the kernel, which the laboratory ends."""
        self._client.stop_channels()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def _wait(done: Any, seconds: float, message: str) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, message
        time.sleep(0.3)
