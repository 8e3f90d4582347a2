"""Text from a model or a file -> text that a terminal can only show.

Whole escape sequences go (a colour code leaves no '[31m' behind), then every control character but newline and tab,
and halves of surrogate pairs, which cannot be written. Everything else stays: joiners and spaces of all kinds are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from heedful.errors import UsageError

_SEQUENCE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, the cursor
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)"  # OSC, DCS: title, clipboard
    "|\x1b[ -/]*[0-OQ-WYZ\\\\`-~]"  # two or three characters: reset, character sets
)
_UNFINISHED = re.compile("[\x1b\x90\x98\x9b\x9d\x9e\x9f][^\x07\x9c\n]{0,255}\\Z")
_HALVES = "\ud800-\udfff"
_HALF = re.compile(f"[{_HALVES}]")
_CONTROL = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_HALVES}]")


def is_unicode(text: str) -> bool:
    """Say whether a text can be written: it holds no half of a surrogate pair, as bytes that are no UTF-8 become."""
    return text.isascii() or _HALF.search(text) is None


def writable(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def check_unicode(what: str, name: object) -> None:
    """Raise UsageError for a name that no file, page or library could hold: it must be text."""
    if not is_unicode(str(name)):
        raise UsageError(
            f"{what} {str(name)!r} is not text: it holds bytes that are not UTF-8.", "Name or write it in UTF-8."
        )


def clean(text: str) -> str:
    """Take the escape sequences and control characters out of a text."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


def clean_stream(pieces: Iterable[str]) -> Iterator[str]:
    """Clean a text that comes in pieces; a sequence that their border cuts waits until it is whole."""
    held = ""
    for piece in pieces:
        text = _SEQUENCE.sub("", held + piece)
        cut = _UNFINISHED.search(text)
        text, held = (text[: cut.start()], text[cut.start() :]) if cut else (text, "")
        if text := clean(text):
            yield text
    if held := clean(held):
        yield held
