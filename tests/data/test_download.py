"""A URL is downloaded once, as a file of rows, or refused in a sentence."""

import errno
import hashlib
import http.server
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.data.files import CSV, JSON, LINES, ROWS, refusal, values, write

from heedful.config import DataConfig
from heedful.data import download, load_splits, sources
from heedful.errors import DataError
from heedful.reporter import Reporter


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("file:///home/me/d.json", "Or give the file's path."),
        ("S3://bucket/d.json?key=x", "Or download the file and give its"),
    ],
)
def test_an_address_of_another_kind_is_refused(url: str, fix: str) -> None:
    assert f"is not an address heedful can read: use http:// or https://. {fix}" in refusal(url)
    with pytest.raises(DataError):
        sources.check_exists(url)


def test_the_case_of_a_scheme_does_not_matter(server: str) -> None:
    assert values(server.replace("http", "HTTP") + "/d.json") == values(server + "/d.json") == ROWS
    assert Served.asked == ["/d.json"]


class Served(http.server.BaseHTTPRequestHandler):
    asked: list[str]
    pages: dict[str, bytes]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(404 if self.path == "/absent.json" else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if self.path == "/login.csv" else "text/plain")
        self.end_headers()
        self.wfile.write(self.pages.get(self.path) or (LINES if self.path.startswith("/rows") else JSON).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Served.asked, Served.pages = [], {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/d.json", "/rows.jsonl", "/download?id=7", "/rows"])
def test_a_url_is_downloaded_once(server: str, path: str) -> None:
    assert values(server + path) == values(server + path) == ROWS
    assert Served.asked == [path]


def test_what_an_address_asks_for_is_kept_out_of_places_and_receipt(server: str) -> None:
    splits, receipt = load_splits(DataConfig(path=f"{server}/download?token=hunter2"))
    assert receipt.path == splits.train[0].place.file == f"{server}/download?..."


def test_a_damaged_download_is_fetched_again(server: str, tmp_path: Path) -> None:
    values(server + "/d.json")
    (kept,) = (tmp_path / "home" / "data").iterdir()
    write(kept, "[]")
    assert values(server + "/d.json") == ROWS
    assert len(Served.asked) == 2


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("/d.csv", b"<!DOCTYPE html><title>Sign in</title>", "a web page, not a file of rows. Give the address of the"),
        ("/login.csv", b"\n<script>sign_in()</script>", "a web page, not a file of rows."),
        ("/d.jsonl", b"\n", "an empty file."),
    ],
)
def test_what_cannot_be_rows_is_not_kept(server: str, tmp_path: Path, path: str, content: bytes, said: str) -> None:
    Served.pages = {path: content}
    assert refusal(server + path).startswith(f"{server}{path} gives {said}")
    assert not list((tmp_path / "home" / "data").iterdir())
    Served.pages = {path: CSV.encode() if path.endswith("csv") else b""}
    assert values(server + path) == ROWS


def test_a_file_that_begins_with_blanks_is_not_empty(server: str) -> None:
    Served.pages = {"/d.json": b" " * 5000 + JSON.encode()}
    assert values(server + "/d.json") == values(server + "/d.json") == ROWS
    assert len(Served.asked) == 1
    Served.pages = {"/e.json": b" " * 5000}
    assert "gives an empty file" in refusal(server + "/e.json")


@pytest.mark.parametrize("held", [None, "none"])
def test_certificates_that_cannot_be_read_are_no_disk_error(
    server: str, held: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    if held:
        (tmp_path / "own.pem").write_text(held)
    told = refusal(server + "/d.json")
    assert told.startswith("The certificates for https cannot be read: ")
    assert told.endswith("Set SSL_CERT_FILE to a file that holds some, or unset it.")


def test_a_web_page_that_was_kept_once_is_fetched_again(server: str, tmp_path: Path) -> None:
    values(server + "/d.json")
    (kept,) = (tmp_path / "home" / "data").iterdir()
    kept.unlink()
    page = b"<html>"
    write(kept.with_name(f"{kept.name.partition('-')[0]}-{hashlib.sha256(page).hexdigest()}"), page)
    assert values(server + "/d.json") == ROWS


def test_a_download_is_said_and_so_is_the_use_of_its_copy(server: str, tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        sources.read(server + "/d.json", Reporter(said.append))
    (kept,) = (tmp_path / "home" / "data").iterdir()
    day = time.strftime("%Y-%m-%d")
    assert said == [
        f"Downloading {server}/d.json.",
        f"{server}/d.json was downloaded on {day}, and that copy is used; to fetch it anew, delete {kept}.",
    ]


def test_a_download_that_would_never_end_is_given_up(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.0)
    monkeypatch.setattr(download, "SLOWEST", 1 << 40)
    assert refusal(f"{server}/d.json").startswith(
        f"{server}/d.json sends less than {1 << 40} bytes a second. Try again"
    )


def test_what_a_killed_download_left_is_removed_by_the_next(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "data"
    folder.mkdir(parents=True)
    key = hashlib.sha256(f"{server}/d.json".encode()).hexdigest()[:16]
    names = (f".{key}.tmp-1", f".{key}.tmp-2", ".backup.tmp-1", f"{key}-notes.txt")
    old, new, foreign, notes = (write(folder / name, "[") for name in names)
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    values(server + "/d.json")
    assert not old.exists() and new.exists()
    assert foreign.exists() and notes.exists(), "they are not ours"


def test_an_error_status_and_too_large_a_file_are_data_errors(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(f"{server}/absent.json") == f"{server}/absent.json answers 404 Not Found. Check the address."
    monkeypatch.setattr(download, "MAX_DOWNLOAD", 10)
    assert f"{server}/d.json is larger than" in refusal(f"{server}/d.json")


def test_an_unreachable_host_is_a_data_error(server: str) -> None:
    assert refusal("http://127.0.0.1:9/d.json").startswith("Cannot reach 127.0.0.1:9: ")
    told = refusal("http://")
    assert told.startswith("Cannot reach http://: ") and ".." not in told
    assert "secret" not in refusal("http:///d.json?token=secret")


@pytest.mark.parametrize(
    ("page", "raw"),
    [
        ("https://github.com/o/r/blob/main/a/d.json", "https://raw.githubusercontent.com/o/r/main/a/d.json"),
        ("https://github.com/o/r/blob/v1/d.json?raw=true#L3", "https://raw.githubusercontent.com/o/r/v1/d.json"),
        (
            "https://huggingface.co/datasets/o/r/blob/main/d.json",
            "https://huggingface.co/datasets/o/r/resolve/main/d.json",
        ),
        ("https://example.org/blob/d.json", "https://example.org/blob/d.json"),
    ],
)
def test_a_page_that_shows_a_file_leads_to_the_file(page: str, raw: str) -> None:
    assert download.raw_url(page) == raw


def test_where_the_caches_downloads_are_closed_a_file_is_read_all_the_same(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user's folder in a home that is shared."""

    def closed(path: Path, *arguments: int) -> None:
        if Path(path) == tmp_path / "home/data":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        mkdir(path, *arguments)

    mkdir = os.mkdir
    monkeypatch.setattr(os, "mkdir", closed)
    assert values(server + "/d.json") == ROWS
    assert not (tmp_path / "home/data").exists()
