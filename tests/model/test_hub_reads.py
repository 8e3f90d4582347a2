"""What is read from a hub, and what never: a hub of our own on this machine, with weights that are no safetensors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.models import byte_tokenizer, tiny_model

REPOSITORY = "me/old"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a repository's files; give the address, and the list of what was asked."""
    folder, asked = tmp_path / "old", list[str]()
    tiny_model("llama").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            asked.append(self.path)
            path = folder / self.path.removeprefix(f"/{REPOSITORY}/resolve/main/")
            found = path.is_file()
            data = path.read_bytes() if found else b"{}"
            self.send_response(200 if found else 404)
            if found:
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", "1" * 40)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = reply

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_weights_of_another_form_are_refused_and_nobody_is_asked_to_convert_them(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = hub
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "heedful", "generate", REPOSITORY, "--prompt", "Hello"]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert said.returncode == 1 and "does not appear to have a file named model.safetensors" in said.stderr
    assert f"/{REPOSITORY}/resolve/main/config.json" in asked
    assert [path for path in asked if "commits" in path or "discussions" in path] == []
