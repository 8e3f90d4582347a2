"""What is pushed is what was verified, private unless asked otherwise: against a hub of our own on this machine."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from tests.export.runs import make_run
from tests.models import byte_tokenizer

from heedful import pipeline
from heedful.errors import ExportError, UsageError
from heedful.export.hub import Shipment, pack, send
from heedful.run import EXPORT_RECEIPT
from heedful.system.atomic import list_files, read_json, write_json


@dataclass
class Hub:
    """A hub that keeps what it is sent: files by name, and the requests that it saw."""

    url: str = ""
    private: bool | None = None  # None: there is no such repository yet
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    instead: dict[str, tuple[int, Any]] = field(default_factory=dict)  # by a word of the path; None: no answer at all

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.requests.append(f"{method} {path}")
        for word, answer in self.instead.items():
            if word in f"{method} {path}":
                return answer
        if path == "/api/repos/create":
            if self.private is None:
                self.private = json.loads(body)["visibility"] == "private"
                return 200, {"url": f"{self.url}/me/tuned", "name": "me/tuned"}
            return 409, {"error": "exists", "url": f"{self.url}/me/tuned"}
        if path.startswith("/api/models/me/tuned/preupload"):
            asked = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
            return 200, {"files": modes}
        if path.startswith("/api/models/me/tuned/commit"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return 200, {"commitUrl": f"{self.url}/me/tuned/commit/1", "commitOid": "1" * 40, "success": True}
        if path.startswith("/api/models/me/tuned"):
            return 200, {"id": "me/tuned", "private": self.private, "sha": "0" * 40, "siblings": [], "tags": []}
        return 404, {"error": path}


@pytest.fixture
def hub() -> Iterator[Hub]:
    kept, ended = Hub(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or self.chunks()
            allowed = self.headers.get("Authorization") == "Bearer right"
            status, value = kept.answer(self.command, self.path, body) if allowed else (401, {"error": "who are you"})
            if value is None:
                ended.wait(280)
                return
            data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def chunks(self) -> bytes:
            body = b""
            while "chunked" in self.headers.get("Transfer-Encoding", "") and (size := int(self.rfile.readline(), 16)):
                body += self.rfile.read(size)
                self.rfile.readline()
            return body

        do_GET = do_POST = do_HEAD = reply

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept
    ended.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "run", "llama", byte_tokenizer())
    return pipeline.export(run).path


IMPATIENT = "from heedful.export import hub; hub.TIMEOUT = 0.5; from heedful.cli import main; main()"


def push(
    hub: Hub, *arguments: object, token: str = "right", start: Sequence[str] = ("-m", "heedful")
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *start, "push", *map(str, arguments), "--to", "me/tuned"]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": token}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)


def test_nothing_is_sent_unless_told(hub: Hub, exported: Path) -> None:
    said = push(hub, exported.parents[1])
    assert said.returncode == 0, said.stderr
    assert "model.safetensors" in said.stdout
    assert "private" in said.stdout
    assert "Add --yes" in said.stderr
    assert hub.requests == []


def test_the_verified_files_arrive_in_a_private_repository(hub: Hub, exported: Path) -> None:
    said = push(hub, exported, "--yes")
    assert said.returncode == 0, said.stderr
    assert hub.private is True
    assert hub.files == {file.name: file.read_bytes() for file in exported.iterdir()}
    assert said.stderr == "Uploading to me/tuned ...\n"


def test_a_file_whose_name_looks_like_a_pattern_arrives(hub: Hub, exported: Path, tmp_path: Path) -> None:
    """As a GGUF file's does that is named after the run mine[1]."""
    folder = tmp_path / "export"
    shutil.copytree(exported, folder)
    (folder / "mine[1].gguf").write_bytes(b"GGUF")
    receipt = read_json(folder / EXPORT_RECEIPT)
    write_json(folder / EXPORT_RECEIPT, receipt | {"files": receipt["files"] | list_files(folder / "mine[1].gguf")})
    said = push(hub, folder, "--yes")
    assert said.returncode == 0, said.stderr
    assert hub.files["mine[1].gguf"] == b"GGUF"


def test_a_repository_that_others_see_than_was_asked_is_not_written_to(hub: Hub, exported: Path) -> None:
    hub.private = True
    said = push(hub, exported, "--yes", "--public")
    assert (said.returncode, hub.files) == (2, {})
    assert "private already" in said.stderr
    hub.private = False
    said = push(hub, exported, "--yes")
    assert (said.returncode, hub.files) == (2, {})
    assert "--public" in said.stderr
    assert push(hub, exported, "--yes", "--public").returncode == 0
    assert hub.files


def test_a_refused_token_is_one_sentence(hub: Hub, exported: Path) -> None:
    said = push(hub, exported, "--yes", token="wrong")
    assert said.returncode == 1
    assert "hf auth login" in said.stderr
    assert "Traceback" not in said.stderr
    assert "wrong" not in said.stderr


@pytest.mark.parametrize("stage", ["create", "preupload", "commit"])
def test_what_the_hub_says_is_told(hub: Hub, exported: Path, stage: str) -> None:
    hub.instead[stage] = 400, {"error": "The name tuned is reserved"}
    said = push(hub, exported, "--yes")
    assert said.returncode == 1
    assert said.stderr.endswith("Cannot push to me/tuned: the hub answers 400: The name tuned is reserved.\n")


@pytest.mark.parametrize("answer", ["<html>Please log in</html>", {"success": True}])
def test_an_answer_that_no_hub_gives_is_told_as_that(hub: Hub, exported: Path, answer: Any) -> None:
    hub.instead["commit"] = 200, answer
    said = push(hub, exported, "--yes")
    assert said.returncode == 1
    assert "the answer is not a hub's" in said.stderr and "HF_ENDPOINT" in said.stderr


@pytest.mark.parametrize("stage", ["create", "GET /api/models/me/tuned"])
def test_a_hub_that_never_answers_is_given_up(hub: Hub, exported: Path, stage: str) -> None:
    hub.instead[stage] = 0, None
    said = push(hub, exported, "--yes", start=("-c", IMPATIENT))
    assert said.returncode == 1
    assert said.stderr.endswith("Cannot push to me/tuned: timed out.\n")


def test_what_was_changed_or_never_exported_is_not_sent(hub: Hub, exported: Path, tmp_path: Path) -> None:
    card = exported / "generation_config.json"
    before = card.read_bytes()
    card.write_bytes(before + b" ")
    said = push(hub, exported, "--yes")
    card.write_bytes(before)
    assert said.returncode == 1
    assert "generation_config.json is not the file that was verified" in said.stderr
    assert "is not a run" in push(hub, tmp_path, "--yes").stderr
    assert hub.requests == []


def test_the_command_that_makes_an_export_can_be_pasted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "my run", "llama", byte_tokenizer())
    with pytest.raises(UsageError, match=f"Make one: heedful export '{run.path}' --to hf"):
        pack(run.path, "me/tuned", public=False)


def test_a_folder_that_is_no_run_is_not_sent_to_be_exported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run") as refusal:
        pack(tmp_path / "nowhere", "me/tuned", public=False)
    assert "heedful export" not in str(refusal.value)


def test_a_client_that_is_made_anew_waits_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client makes another after each connection that is refused."""

    def refused(*arguments: object, **options: object) -> None:
        huggingface_hub.close_session()
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refused)
    with pytest.raises(ExportError, match="Cannot push to me/tuned: refused"):
        send(Shipment(tmp_path, {}, "me/tuned", public=False))
    assert huggingface_hub.get_session().timeout.read == 60.0
