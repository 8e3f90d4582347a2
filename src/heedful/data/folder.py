"""A folder of data -> which of its files are which part of the split, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from heedful.data.readers import READERS, file_type
from heedful.data.split import Part
from heedful.errors import DataError

PART_NAMED: dict[str, Part] = {
    "train": "train",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
SHARD = re.compile(r"-(\d+)(-of-(\d+))?$")  # as in train-00000-of-00002.parquet
KINDS = ", ".join(f".{ending}" for ending in READERS)


def parts_in(folder: Path) -> dict[Part, list[Path]]:
    """Find the files that are the split, as train.json and test.json; several of one part have numbers."""
    parts: dict[Part, list[Path]] = {}
    for path, part in _parted(folder):
        if part:
            parts.setdefault(part, []).append(path)
    if "train" not in parts:
        fix = f"It should hold train, and may hold validation and test, as one of {KINDS}. Or give one file's path."
        raise DataError(f"The folder {folder} has no train file.", fix)
    for part, paths in parts.items():
        if len(paths) > 1 and not all(map(_shard, paths)):
            names = " and ".join(path.name for path in paths[:2])
            raise DataError(f"The folder {folder} has {names}, which are both {part}.", "Keep one of them there.")
        _refuse_missing(folder, paths)
    return parts


def no_part_in(folder: Path) -> list[str]:
    """Name the files that could be read, but are no part."""
    return [path.name for path, part in _parted(folder) if not part]


def _parted(folder: Path) -> list[tuple[Path, Part | None]]:
    """List the files of a type that can be read, but for hidden ones, each with its part. `dev` is validation where no
    other file is."""
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    paths = [path for path in paths if file_type(path.name)[0] in READERS]
    known = {name: part for name, part in PART_NAMED.items() if name != "dev"}
    names = PART_NAMED if all(known.get(_name(path)) != "validation" for path in paths) else known
    return [(path, names.get(_name(path))) for path in paths]


def _stem(path: Path) -> str:
    return path.name.partition(".")[0].lower()


def _name(path: Path) -> str:
    return SHARD.sub("", _stem(path))


def _shard(path: Path) -> re.Match[str] | None:
    return SHARD.search(_stem(path))


def _refuse_missing(folder: Path, paths: Sequence[Path]) -> None:
    """Raise DataError where the names tell of more files: of n, they are numbered 0 to n - 1 or 1 to n."""
    numbered: dict[int, dict[int, Path]] = {}  # how many there should be -> those there are
    for path in paths:
        if (shard := _shard(path)) and shard[3]:
            numbered.setdefault(int(shard[3]), {})[int(shard[1])] = path
    for count, found in numbered.items():
        first = int(0 not in found and count in found)
        missing = next((number for number in range(first, first + count) if number not in found), None)
        if missing is None:
            continue
        one = next(iter(found.values())).name
        head, number, tail = re.split(r"(?<=-)(\d+)", one, maxsplit=1)
        if missing == 0:  # or the last, where they are numbered from 1
            problem = f"{folder} holds {len(found)} of {count} files that belong together, as {one}."
            raise DataError(problem, "Put the others there.")
        name = f"{head}{missing:0{len(number)}}{tail}"
        raise DataError(f"The folder {folder} lacks {name}: {one} is one of {count} files.", "Put it there.")
