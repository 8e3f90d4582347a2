"""Four rows as every kind of file, and what reading a file gives or refuses."""

import json
from pathlib import Path

import pytest

from heedful.data import sources
from heedful.errors import DataError

ROWS = [{"instruction": f"Say {word}.", "input": "", "output": f"{word}!"} for word in ("één", "zwei", "三", "four")]


JSON = json.dumps(ROWS, ensure_ascii=False, indent=1)


LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n"


CSV = "instruction,input,output\n" + "".join(f"{r['instruction']},,{r['output']}\n" for r in ROWS)


def values(path: Path | str) -> list[object]:
    return [row.value for source in sources.read(str(path)) for row in source.rows]


def refusal(path: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        sources.read(str(path))
    return str(caught.value).replace(str(path), path.name if isinstance(path, Path) else path)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
