"""Files and folders that appear whole or not at all, whenever the process or the machine stops."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from heedful.errors import RunError

MANIFEST = "MANIFEST.json"  # of a folder: what `list_files` lists, written last
PRIVATE = 0o600  # the mode of a library's temporary file, which the file keeps when it is renamed
SPACE, PERMISSION = "free some space", "get write permission there"
FIXES = {
    errno.ENOSPC: SPACE, errno.EDQUOT: SPACE,
    errno.EACCES: PERMISSION, errno.EPERM: PERMISSION, errno.EROFS: PERMISSION,
}  # fmt: skip
LEFTOVER = re.compile(r"\.(.+)\.tmp-(old-)?([0-9]+)", re.S)  # whose place, and the process that was at work beside it


def beside(path: Path, old: str = "") -> Path:
    """Name a place beside another, in which this process makes what is to go there; `remove_leftovers` knows it."""
    return path.with_name(f".{path.name}.tmp-{old}{os.getpid()}")


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file so that it is either the old one or the new one, whole, whatever happens."""
    data = content.encode() if isinstance(content, str) else content
    temporary = beside(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            sync(file)
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):  # where nothing can be written it is not there
            temporary.unlink()
        raise RunError(f"Cannot write {path}: {error.strerror}.", advice(error)) from error


def advice(error: Exception, other: str = "") -> str:
    """Say what helps after a write failed: what the error's number tells, or the `other` that the caller knows."""
    words = ", or ".join(filter(None, (FIXES.get(_number(error)), other)))
    return f"{words[0].upper()}{words[1:]}." if words else ""


def is_closed(error: Exception) -> bool:
    """Say whether a write failed because we may not write there."""
    return FIXES.get(_number(error)) == PERMISSION


def _number(error: Exception) -> int:
    told = re.search(r"\(os error (\d+)\)", str(error))  # as safetensors wraps one
    return getattr(error, "errno", None) or int(told[1] if told else 0)


def write_json(path: Path, value: Any) -> None:
    atomic_write(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path, fix: str = "Put back a copy of it.") -> Any:
    """Read a file of JSON; `fix` says what to do where it is damaged, such as which verb writes it anew."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"Cannot read {path}: {error}.", fix) from error


@contextmanager
def whole_folder(folder: Path, before: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Give a folder beside `folder` to write to; once all is on the disk, call `before` and put it in the place.

    Where `folder` is a link, what it leads to is replaced, and the link stays.
    """
    folder = folder.resolve()
    temporary = beside(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        sync_files(temporary)
        sync_directory(temporary)
        before()
        replace_directory(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path, of: str = "*") -> None:
    """Remove the files and folders in it that a kill left half-written, all or those `of` a name; a folder that was to
    be replaced goes back to its place."""
    for leftover in folder.glob(f".{of}.tmp-*"):
        found = LEFTOVER.fullmatch(leftover.name)
        if found is None or is_alive(int(found[3])):
            continue  # not a name of ours, or its process is still at work
        if found[2] and leftover.is_dir() and not (folder / found[1]).exists():
            os.rename(leftover, folder / found[1])
        elif leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):  # nothing may be written there
                leftover.unlink()


def is_alive(process: int) -> bool:
    """Say whether a process, by its number, is another one that is still there."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OverflowError, ProcessLookupError):
        return False
    return process != os.getpid()


def replace_directory(new: Path, old: Path) -> None:
    """Put a directory in the place of another, which is no link; at no instant is a half-written one there."""
    retired = beside(old, "old-")
    if old.exists():
        os.rename(old, retired)
    try:
        os.rename(new, old)
    except OSError:
        if retired.exists():
            os.rename(retired, old)
        raise
    sync_directory(old.parent)
    shutil.rmtree(retired, ignore_errors=True)


def list_files(place: Path) -> dict[str, Any]:
    """List the files of a folder, or the one file, with the size and hash by which they are known again."""
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return {file.name: _described(file) for file in files}


def changed_file(folder: Path, listed: Mapping[str, Any]) -> str | None:
    """Name the first file that is no longer as `list_files` listed it; None if all are."""
    for name, described in listed.items():
        file = folder / name
        if not file.is_file() or _described(file) != described:
            return name
    return None


def _described(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256(file)}


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(file: IO[bytes]) -> None:
    """Push a file's bytes to the disk; without the flush the last buffer would stay behind."""
    file.flush()
    os.fsync(file.fileno())


def sync_files(place: Path) -> None:
    """Push to the disk what other libraries wrote: the files of a folder, or the one file.

    One that is private, as safetensors leaves what it saves, gets the mode of any other file first.
    """
    folder = place if place.is_dir() else place.parent
    for path in list(place.iterdir()) if place.is_dir() else [place]:
        with open(path, "rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) == PRIVATE:
                with suppress(OSError):  # it can be read by us, at least
                    os.fchmod(file.fileno(), _mode_of_a_new_file(folder))
            sync(file)


def _mode_of_a_new_file(folder: Path) -> int:
    """Make a file to see its mode: to read the umask is to change it, for other threads too."""
    tried = beside(folder / "mode")
    try:
        with open(tried, "wb") as file:
            return stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    finally:
        tried.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Push a directory's names to the disk; without it a rename may be lost."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
