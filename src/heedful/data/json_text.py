"""A stream of JSON text, seen through a window that moves: values are decoded one by one, with exact places of errors.

What JSON forbids and Python allows (NaN, a doubled key, half of a surrogate pair) becomes a problem of the value in
which it stands. A fault after which no value's end can be found again is a DataError with file, line and column.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from typing import Any, BinaryIO, NoReturn

from heedful.clean import is_unicode
from heedful.errors import DataError

GET_AGAIN = "The file may be cut off: get it again."
TOO_DEEP = "the row is nested too deep"
WINDOW = 1 << 20  # bytes; a longer value widens it
LONGEST_WORD = 16  # a fault this near the window's end may be a word, a number or an escape that the window cuts

Broken = ValueError | RecursionError


class JsonText:
    """The window: `text` begins where all before it was decoded."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name, self.text, self.ended = name, "", False
        self._stream, self._decoder, self._json = stream, codecs.getincrementaldecoder("utf-8-sig")(), Decoder()
        self._line, self._column, self._seen = 1, 0, 0  # of the window's start; where lines were counted last

    def more(self) -> None:
        """Widen the window, at least to twice its width, so that a long value is not decoded too often."""
        piece = self._stream.read(max(WINDOW, len(self.text)))
        self.ended = not piece
        self.text += self._decoder.decode(piece, self.ended)

    def forget(self, at: int) -> int:
        """Move the window to a position, if that is worth the copying; give where the position is now."""
        if at < WINDOW // 2:
            return at
        self.line_of(at)
        before = self.text.rfind("\n", 0, at)
        self._column = at - before - 1 if before >= 0 else self._column + at
        self.text, self._seen = self.text[at:], 0
        return 0

    def line_of(self, at: int) -> int:
        """Return the line of a position; positions are asked for in order."""
        self._line += self.text.count("\n", self._seen, at)
        self._seen = at
        return self._line

    def blank(self, at: int) -> int:
        """Skip JSON's white space."""
        while (end := blank(self.text, at)) == len(self.text) and not self.ended:
            self.more()
        return end

    def at(self, position: int) -> str:
        """Return the character at a position that `blank` gave; "" is the end of the file."""
        return self.text[position : position + 1]

    def value(self, at: int, where: str = "") -> tuple[Any, int, str]:
        """Decode one value: the value, where it ends, its problem."""
        while True:
            try:
                value, end, problem = self._json.decode(self.text, at)
                if end < len(self.text) or self.ended:
                    return value, end, problem
            except (ValueError, RecursionError) as error:
                if self.ended or not self._may_go_on(error):
                    position, what, fix = broken(error, self.text, at)
                    self.stop(position, f"{what}{where}", fix, error)
            self.more()

    def _may_go_on(self, error: Broken) -> bool:
        """Say whether a fault may only be the window's end."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self.text.rstrip()) - LONGEST_WORD

    def stop(self, at: int, problem: str, fix: str = "", cause: Exception | None = None) -> NoReturn:
        """Raise what is wrong at a position."""
        before = self.text.rfind("\n", 0, at)
        column = at - before if before >= 0 else self._column + at + 1
        raise DataError(f"{self.name}:{self.line_of(at)}:{column}: {problem}.", fix) from cause


class Decoder:
    """JSON's own decoder, except that what JSON forbids and Python allows becomes a problem of the row."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._json = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=lambda word: self.problems.append(f"{word} is not a JSON value"),
            parse_int=self._int,
            parse_float=self._float,
        )

    def decode(self, text: str, start: int) -> tuple[Any, int, str]:
        """Decode one value: the value, where it ends, its problem. Raise ValueError or RecursionError."""
        self.problems.clear()
        value, end = self._json.raw_decode(text, start)
        if text.find("\\u", start, end) >= 0 and not is_unicode(json.dumps(value, ensure_ascii=False)):
            self.problems.append("half of a surrogate pair, as in \\ud83d, is not a character")
        return value, end, "; ".join(dict.fromkeys(self.problems)) if self.problems else ""

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            self.problems.append(f'the key "{key}" stands twice')
        return value

    def _int(self, digits: str) -> int | None:
        try:
            return int(digits)
        except ValueError:  # Python reads 4,300 digits at most
            self.problems.append("a number is too long")
            return None

    def _float(self, digits: str) -> float:
        value = float(digits)
        if math.isinf(value):
            self.problems.append(f"the number {digits[:20]} is too large")
        return value


def broken(error: Broken, text: str, start: int) -> tuple[int, str, str]:
    """Say where a value breaks, why, and what to do."""
    if not isinstance(error, json.JSONDecodeError):
        return start, TOO_DEEP, "A row should hold text, or a list of messages."
    before = text[: error.pos].rstrip()[-1:]
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return error.pos, f"the text ends inside a row ({lower(error.msg)})", GET_AGAIN
    trailing = "trailing comma" in error.msg or (before == "," and text[error.pos] in "]}")  # from Python 3.13, before
    fix = "Remove the comma before the bracket." if trailing else ""
    return error.pos, f"not JSON: {lower(error.msg)}", fix


_BLANK = re.compile(r"[ \t\r\n]*")


def blank(text: str, at: int) -> int:
    """Skip JSON's white space."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def lower(text: str) -> str:
    return text[:1].lower() + text[1:]
