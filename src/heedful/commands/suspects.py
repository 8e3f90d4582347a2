"""`heedful check --run RUN`: the rows of its data that a training found most suspect."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from heedful.clean import clean
from heedful.data.datamap import KINDS, losses_in_words
from heedful.errors import UsageError
from heedful.report import screen
from heedful.run import open_run
from heedful.whole import read_json

LONGEST = 200  # characters of a text


def show(path: Path, count: int, as_json: bool) -> None:
    """Print the first rows of the run's data map, each with its place, its losses and why it is listed."""
    run = open_run(path)
    if not run.data_map_file.exists():
        raise UsageError(f"{path} has no data map yet.", "It is written when the training ends or is interrupted.")
    found = read_json(run.data_map_file)
    if as_json:
        screen.show_json({**found, "look": found["look"][:count]})
        return
    kinds = ", ".join(f"{found[kind]:,} {kind}" for kind in KINDS.values() if found.get(kind))
    title = f"{found['rows']:,} training rows: {kinds}"
    table = Table(title=f"{title}. Most worth a look:", title_justify="left", show_lines=True)
    for name in ("where", "question", "answer in the data", "loss by epoch", "why"):
        table.add_column(name, overflow="fold")
    for row in found["look"][:count]:
        losses = losses_in_words(row["losses"])
        texts = (screen.shorten(clean(row[name]), LONGEST) for name in ("question", "answer"))
        table.add_row(*map(Text, (clean(row["place"]), *texts, losses, row["why"])))
    screen.out.print(table)
