"""Where `check` stores its receipt: in the file that is named, or else in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from heedful.errors import RunError, UsageError
from heedful.report import screen
from heedful.run import slug
from heedful.system.atomic import write_json
from heedful.system.store import cache_home


def check_path(out: Path | None) -> None:
    """Raise UsageError if a receipt would replace a file that is not one, such as the data."""
    if out is None or not out.exists():
        return
    held = None
    if out.is_file():  # a pipe would be waited for
        with suppress(OSError, ValueError):
            held = json.loads(out.read_text(encoding="utf-8"))
    if not isinstance(held, dict) or "encoding" not in held:
        raise UsageError(f"{out} exists and is not a receipt.", "Choose another --out.")


def store(receipt: Mapping[str, Any], out: Path | None) -> None:
    """Store a receipt in `out`, or else in the cache under the data's name and its own hash; say where."""
    digest = hashlib.sha256(json.dumps(receipt).encode()).hexdigest()
    named = out and out.resolve()  # what a link leads to is replaced, and the link stays
    place = named or cache_home() / "receipts" / f"{slug(Path(receipt['data']['path']).stem)}-{digest[:8]}.json"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, receipt)
    except (OSError, RunError) as error:
        if out is not None:
            raise UsageError(f"Cannot write {out}.", "Choose another --out.") from error
        screen.say(f"The receipt is not stored: {place.parent} cannot be written.")
    else:
        screen.say(f"The receipt is stored in {place}.")
