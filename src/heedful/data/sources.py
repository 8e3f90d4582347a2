"""What the user named -> the files behind it, each as rows with their places, read once into the cache.

A path, a folder of train / validation / test files, a URL, a Hugging Face data set id, `builtin` or `builtin:zh`.
The network is touched only for a URL or an id that the user wrote; a URL is downloaded once.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from heedful.address import redacted, scheme_of
from heedful.clean import check_unicode
from heedful.data.cells import SIGNS, TABLES, delimiter
from heedful.data.download import check_url, fetched
from heedful.data.folder import KINDS, PART_NAMED, no_part_in, parts_in
from heedful.data.readers import READERS, RawRow, as_json, file_type, read_rows
from heedful.data.split import Part
from heedful.data.spool import Spool, spool
from heedful.data.unpack import Open, unpacked
from heedful.errors import DataError, did_you_mean, install_extra, listed, reason_of
from heedful.records import Place
from heedful.reporter import SILENT, Reporter, tallied

BUILTIN = {"builtin": "en", "builtin:en": "en", "builtin:zh": "zh"}


@dataclass(frozen=True)
class Source:
    """The rows of one file, and the part of the split that the file is; parts that no file is come out of train."""

    name: str
    rows: Spool
    sha256: str
    part: Part = "train"
    note: str = ""  # how it is read, where that is not as its type says


@dataclass(frozen=True)
class _File:
    """Where the bytes of one file are, and how they are read."""

    name: str
    opened: Open
    ending: str
    packed: bool = False
    part: Part = "train"


def read(path: str, reporter: Reporter = SILENT) -> list[Source]:
    """Read everything that `path` names; raise DataError if it cannot be had."""
    with _readable(path):
        if scheme_of(path):
            return [_read(_url(path, reporter), reporter)]
        if (files := _files(path)) is not None:
            if note := unread(path):
                reporter.say(note)
            return [_read(file, reporter) for file in files]
    return _hub(path)


def unread(path: str) -> str:
    """Say which files of a folder are not read though they could be, or nothing."""
    folder = Path(path).expanduser()
    names = no_part_in(folder) if path not in BUILTIN and not scheme_of(path) and folder.is_dir() else []
    return f"Not read, as their names are those of no part: {listed(names)} of {path}." if names else ""


def check_exists(path: str) -> None:
    """Raise DataError where `path` names nothing that is here; no address and no hub is asked."""
    if scheme_of(path):
        check_url(path)
    else:
        with _readable(path):
            _files(path)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn what the system says of a path into one sentence."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a loop of links, no host, a NUL
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise DataError(f"Cannot read {redacted(path)}: {reason}.") from error


def _files(path: str) -> list[_File] | None:
    """Find the files that are meant, or None for a data set of the hub."""
    if path in BUILTIN:
        file = importlib.resources.files("heedful.data.builtin") / f"{BUILTIN[path]}.json"
        return [_File(path, lambda: cast(BinaryIO, file.open("rb")), "json")]
    if path.startswith("builtin") and not Path(path).exists():
        raise DataError(f"There is no data set {path}.", did_you_mean(path, BUILTIN))
    if not path.strip():
        raise DataError("The name of the data is empty.", "Give a file, a folder, an address or builtin.")
    if path == "-":
        raise _not_kept("What comes through a pipe")
    local = Path(path).expanduser()
    if local.is_dir():
        return [_file(file, part) for part, files in parts_in(local).items() for file in files]
    if local.exists() or local.is_symlink() or not _is_hub_id(path):
        return [_file(local)]
    if near := _near_file(local):  # a typing error must not be sent to the hub
        raise DataError(f"There is no file or folder {path}.", near)
    return None


def _file(path: Path, part: Part = "train") -> _File:
    check_unicode("The file's name", path)
    if path.is_symlink() and not os.path.exists(path):  # which says so of a loop too
        problem = f"{path} is a link to {os.readlink(path)}, which leads nowhere."
        raise DataError(problem, "Mend the link, or give the file's own path.")
    if not path.exists():
        raise DataError(f"There is no file {path}.", _near_file(path))
    if path.is_dir():  # as Spark writes one
        name, dot, ending = path.name.partition(".")
        fix = f"Put its files beside it, as {name}-1{dot}{ending}, {name}-2{dot}{ending} and so on, and remove it."
        raise DataError(f"{path} is a folder, where a file should be.", fix)
    if not path.is_file():
        raise _not_kept(f"{path}, which is a pipe or a device,")
    ending, packed = file_type(path.name)
    if ending not in READERS:
        raise DataError(f"{path} is of a file type that cannot be read.", f"heedful reads {KINDS}, and each with .gz.")
    return _File(str(path), lambda: open(path, "rb"), ending, packed, part)


def _not_kept(what: str) -> DataError:
    return DataError(f"{what} cannot be read more than once, which heedful needs.", "Save the data as a file first.")


def _read(file: _File, reporter: Reporter) -> Source:
    """Return a file's rows: read, or remembered by its content."""
    with file.opened() as stream:
        content, size = hashlib.file_digest(cast(BufferedReader, stream), "sha256").hexdigest(), stream.tell()
        hashed = _stamp(stream)
    key = {"content": content, "ending": file.ending, "packed": file.packed}

    latest: list[BinaryIO] = []  # tells how far the file is read; some readers open it twice

    def opened() -> BinaryIO:
        latest[:] = [file.opened()]
        return latest[0]

    def rows() -> Iterator[RawRow]:
        with reporter.counting(f"Reading {file.name} (MiB)", -(-size >> 20)) as done:

            def tell(rows: int) -> None:
                if not latest[0].closed:
                    done(latest[0].tell() >> 20)

            yield from tallied(read_rows(opened, file.name, file.ending, file.packed), tell)
        with file.opened() as stream:
            if _stamp(stream) != hashed:  # the rows would be kept under the hash of what it was
                raise DataError(f"{file.name} changed while it was read.", "Try again when it is whole.")

    kept = spool(file.name, key, rows)
    if note := _note(file):
        reporter.say(note)
    return Source(file.name, kept, content, file.part, note)


def _stamp(stream: BinaryIO) -> tuple[int, int]:
    """Tell by what a file is seen to change: its size, and when it was written."""
    state = os.fstat(stream.fileno())
    return state.st_size, state.st_mtime_ns


def _note(file: _File) -> str:
    """Say what parts a table's cells where the usual sign does not, or nothing."""
    if not (usual := TABLES.get(file.ending)):
        return ""
    sign = delimiter(unpacked(file.opened, file.name, file.packed), usual)
    return "" if sign == usual else f"The cells of {file.name} are parted by {SIGNS[sign]}, as its header shows."


def _near_file(path: Path) -> str:
    with suppress(OSError):
        return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    return ""


def _url(url: str, reporter: Reporter) -> _File:
    """Read what a URL leads to, from the cache if it was downloaded before."""
    path = fetched(url, reporter)
    ending, _ = file_type(urlsplit(url).path)
    # An address such as /download?id=7 has no ending; the JSON reader tells an array from lines.
    return _File(redacted(url), lambda: open(path, "rb"), ending if ending in READERS else "json")


def _is_hub_id(path: str) -> bool:
    return re.fullmatch(r"\w[\w.-]*/[\w.-]+", path) is not None and file_type(path)[0] not in READERS


def _hub(name: str) -> list[Source]:
    """Read a data set of the Hugging Face hub; its splits are the split where they are train, validation, test."""
    try:
        import datasets
    except ImportError as error:
        problem = f"There is no file or folder {name}, and reading a data set of the Hugging Face hub needs datasets."
        raise DataError(problem, install_extra("data")) from error
    try:
        loaded = datasets.load_dataset(name)
        splits = {str(split): rows for split, rows in loaded.items()}
    except Exception as error:  # offline, gated, renamed, of a kind datasets refuses: it has no common error
        problem = f"Cannot read the data set {name} from the hub: {reason_of(error)}."
        raise DataError(problem, "Check the name and the network.") from error
    named: dict[Part, Sequence[Any]] = {}
    for split in filter(PART_NAMED.__contains__, splits):
        if (part := PART_NAMED[split]) in named:
            names = " and ".join(other for other in splits if PART_NAMED.get(other) == part)
            raise DataError(
                f"The data set {name} has {names}, which are both {part}.", "Save the rows you mean as files."
            )
        named[part] = splits[split]
    if "train" not in named:
        raise DataError(f"The data set {name} has no part train.", f"It has {', '.join(splits)}: save one as a file.")
    return [_hub_part(name, part, rows) for part, rows in named.items()]


def _hub_part(name: str, part: Part, rows: Sequence[Any]) -> Source:
    label, digest = f"{name}[{part}]", hashlib.sha256()
    for number, row in enumerate(rows):
        digest.update((", " if number else "[").encode() + json.dumps(as_json(dict(row)), sort_keys=True).encode())
    digest.update(b"]" if len(rows) else b"[]")
    content = digest.hexdigest()

    def found() -> Iterator[RawRow]:
        return (RawRow(as_json(dict(row)), Place(label, number)) for number, row in enumerate(rows, 1))

    return Source(label, spool(label, {"content": content, "ending": "hub"}, found), content, part)
