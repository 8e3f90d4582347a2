"""An address -> a file in the cache: fetched once, whole, and only if it can be rows."""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from heedful.address import names_user, redacted, scheme_of
from heedful.data.unpack import HEAD, RAW, is_page
from heedful.errors import DataError, reason_of
from heedful.reporter import Reporter
from heedful.system.atomic import advice, beside, sha256, sync
from heedful.system.store import SET_HOME, in_home, writable_home

if TYPE_CHECKING:
    import httpx2

MAX_DOWNLOAD = 2 << 30  # bytes
TIMEOUT = 30.0  # seconds without a byte
PATIENCE, SLOWEST = 60.0, 1024  # after so many seconds, fewer bytes a second are given up
ABANDONED = 3600.0  # seconds after its last byte in which nobody can still be writing a temporary file
SCHEMES = ("http", "https")


def check_url(url: str) -> None:
    """Raise DataError for an address that is not fetched: of another scheme, or with a password in it."""
    if scheme_of(url) not in SCHEMES:
        fix = "Or give the file's path." if scheme_of(url) == "file" else "Or download the file and give its path."
        raise DataError(f"{redacted(url)} is not an address heedful can read: use http:// or https://.", fix)
    if names_user(url):
        problem = f"The address {redacted(url)} was given with a user or password, which a run would write down."
        raise DataError(problem, "Leave them out, or download the file and give its path.")


def fetched(url: str, reporter: Reporter) -> Path:
    """Return the file that an address leads to, from the cache if it was downloaded before and is whole."""
    check_url(url)
    try:
        return in_home(lambda home: _fetched(raw_url(url), home / "data", reporter))
    except OSError as error:
        problem = f"Cannot write to {writable_home() / 'data'}: {error.strerror}."
        raise DataError(problem, advice(error, SET_HOME)) from error


def _fetched(url: str, folder: Path, reporter: Reporter) -> Path:
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    if kept := _kept(folder, key):
        day = time.strftime("%Y-%m-%d", time.localtime(kept.stat().st_mtime))
        reporter.say(
            f"{redacted(url)} was downloaded on {day}, and that copy is used; to fetch it anew, delete {kept}."
        )
        return kept
    temporary = beside(folder / key)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _remove_abandoned(folder)
        with open(temporary, "wb") as file:
            kind = _download(url, file, reporter)
            sync(file)
        if instead := _instead_of_rows(temporary, kind):
            raise DataError(f"{redacted(url)} gives {instead}.", RAW)
        return temporary.rename(folder / f"{key}-{sha256(temporary)}")
    finally:
        temporary.unlink(missing_ok=True)


def raw_url(url: str) -> str:
    """Turn the address of a file's page on GitHub or Hugging Face into the address of the file."""
    scheme, _, rest = url.partition("://")
    url = f"{scheme.lower()}://{rest}"
    github = re.fullmatch(r"https?://github\.com/([^/]+/[^/]+)/(?:blob|raw)/([^?#]+)(?:[?#].*)?", url)
    if github:
        return f"https://raw.githubusercontent.com/{github[1]}/{github[2]}"
    return re.sub(r"^(https://huggingface\.co/(?:datasets/)?[^/]+/[^/]+)/blob/", r"\1/resolve/", url)


def _kept(folder: Path, key: str) -> Path | None:
    """Find what was downloaded before; what is damaged, or no rows, is removed."""
    for path in folder.glob(f"{key}-{'[0-9a-f]' * 64}"):
        if path.name == f"{key}-{sha256(path)}" and not _instead_of_rows(path):  # its name holds its hash
            return path
        path.unlink()
    return None


def _remove_abandoned(folder: Path) -> None:
    """Remove what processes left that were killed; the pid in a name may be another machine's, so time tells."""
    for path in folder.glob(f".{'[0-9a-f]' * 16}.tmp-*"):
        with suppress(FileNotFoundError):  # its own process was faster
            if path.stat().st_mtime < time.time() - ABANDONED:
                path.unlink()


def _instead_of_rows(path: Path, kind: str = "") -> str:
    """Name what came where rows should have, by the first bytes and the kind that its server says; "" for rows."""
    with open(path, "rb") as file:
        head = next((part for part in iter(lambda: file.read(HEAD), b"") if part.strip()), b"").strip()
    if not head:
        return "an empty file"
    page = is_page(head) or (kind.startswith("text/html") and head.startswith(b"<"))
    return "a web page, not a file of rows" if page else ""


def _download(url: str, file: IO[bytes], reporter: Reporter) -> str:
    """Fetch a URL whole and give its content type; raise DataError for an unreachable host, an error status, more than
    MAX_DOWNLOAD, or bytes that come so slowly that they never end."""
    import httpx2

    try:
        with _client() as client, client.stream("GET", url) as response:
            if response.status_code != httpx2.codes.OK:
                problem = f"{redacted(url)} answers {response.status_code} {response.reason_phrase}."
                raise DataError(problem, "Check the address.")
            _receive(response, url, file, reporter)
            return str(response.headers.get("content-type", ""))
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        fix = "Check the address and the network, or download it and give the file's path."
        raise DataError(f"Cannot reach {urlsplit(url).netloc or redacted(url)}: {reason_of(error)}.", fix) from error


def _client() -> httpx2.Client:
    """Return what fetches; raise DataError where the environment names certificates that cannot be read."""
    import httpx2

    try:
        return httpx2.Client(follow_redirects=True, timeout=TIMEOUT)
    except OSError as error:
        problem = f"The certificates for https cannot be read: {error.strerror}."
        raise DataError(problem, "Set SSL_CERT_FILE to a file that holds some, or unset it.") from error


def _receive(response: httpx2.Response, url: str, file: IO[bytes], reporter: Reporter) -> None:
    length = response.headers.get("content-length", "")
    size = int(length) >> 20 if length.isdigit() else 0
    reporter.say(f"Downloading {redacted(url)}" + (f" ({size} MiB)." if size else "."))
    started = time.monotonic()
    with reporter.counting(f"Downloading {redacted(url)} (MiB)", size) as done:
        for chunk in response.iter_bytes():
            file.write(chunk)
            if size:
                done(file.tell() >> 20)
            if file.tell() > MAX_DOWNLOAD:
                problem = f"{redacted(url)} is larger than {MAX_DOWNLOAD >> 20} MiB."
                raise DataError(problem, "Download it and give its path.")
            seconds = time.monotonic() - started
            if seconds > PATIENCE and response.num_bytes_downloaded < SLOWEST * seconds:
                problem = f"{redacted(url)} sends less than {SLOWEST} bytes a second."
                raise DataError(problem, "Try again later, or download it and give its path.")
