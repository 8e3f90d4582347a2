"""`heedful models`: which there are by name, and fetching one. To list them takes no torch."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from heedful.catalogue import CATALOGUE, works_offline
from heedful.report import screen


def list_models(as_json: bool) -> None:
    """Print the catalogue."""
    rows = [
        {"name": n, "parameters": e.parameters, "licence": e.licence, "hub_id": e.hub_id, "offline": works_offline(n)}
        for n, e in CATALOGUE.items()
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("name", "parameters", "licence", "on this machine", "Hugging Face id", box=None, pad_edge=False)
    for row in rows:
        offline = "yes" if row["offline"] else "needs the network"
        table.add_row(str(row["name"]), str(row["parameters"]), str(row["licence"]), offline, str(row["hub_id"]))
    screen.out.print(table)
    screen.out.print(
        "A folder, a .gguf file and any Hugging Face id of a causal language model work as well.", style="dim"
    )


def pull(name: str) -> Path:
    """Fetch or convert a model, so that it loads at once from then on; give its folder."""
    from heedful import model as models

    loaded = models.load(name)
    if Path(loaded.origin).is_dir():
        return Path(loaded.origin)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(loaded.origin, local_files_only=True))
