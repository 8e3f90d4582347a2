"""The bytes of a file as they came -> the bytes to read: gzip is unpacked, a web page that came instead is refused.

A name may be wrong, so the first bytes decide.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import BinaryIO, cast

from heedful.errors import DataError

Open = Callable[[], BinaryIO]  # gives the file's bytes from their start, as often as it is called

HEAD = 1024  # bytes that tell what a file is
LAYERS = 2  # a packed file may have been packed again; one that unpacks to itself can be made
RAW = "Give the address of the raw file, or download it and give its path."
_GZIP = b"\x1f\x8b"
_PAGE = re.compile(  # atomic: many comments are not tried in all their divisions
    rb"(\xef\xbb\xbf)?(?>(?:\s|<\?xml[^>]*>|<!--.*?-->)*)<(!doctype\s+html|html|head|body)\b", re.I | re.S
)


def is_page(head: bytes) -> bool:
    """Say whether a file that begins so is a web page."""
    return _PAGE.match(head) is not None


def unpacked(opened: Open, name: str, packed: bool) -> Open:
    """Return the bytes to read; raise DataError for a web page, and where a name promises gzip (`packed`) in vain."""
    head = _head(opened)
    if packed and head and not head.startswith(_GZIP):
        raise DataError(f"{name} is not gzip, whatever its name says.", "Take .gz off the name, or get the file again.")
    for _ in range(LAYERS):
        if head.startswith(_GZIP):
            opened = _unpacked_once(opened)
            head = _head(opened)
    if head.startswith(_GZIP):
        raise DataError(f"{name} is gzip within gzip, more than {LAYERS} times.", "Unpack it.")
    if is_page(head):
        raise DataError(f"{name} is a web page, not rows.", RAW)
    return opened


def _head(opened: Open) -> bytes:
    with opened() as stream:
        return stream.read(HEAD)


class _Gzip(gzip.GzipFile):
    """Closes the packed file with itself."""

    def __init__(self, packed: BinaryIO) -> None:
        super().__init__(mode="rb", fileobj=packed)
        self._packed = packed

    def close(self) -> None:
        super().close()
        self._packed.close()


def _unpacked_once(opened: Open) -> Open:
    return lambda: cast(BinaryIO, _Gzip(opened()))
