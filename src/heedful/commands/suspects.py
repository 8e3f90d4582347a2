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
from heedful.system.atomic import read_json

LONGEST = 200  # characters of a text


def show(path: Path, count: int, as_json: bool) -> None:
    """Print the first rows of the run's data map, each with its place, its losses and why it is listed."""
    run = open_run(path)
    if not run.data_map_file.exists():
        run.check_model()
        raise UsageError(f"{path} has no data map yet.", "It is written when the training ends or is interrupted.")
    found = read_json(run.data_map_file)
    if as_json:
        screen.show_json({**found, "look": found["look"][:count]})
        return
    kinds = ", ".join(f"{found[kind]:,} {kind}" for kind in KINDS.values() if found.get(kind))
    screen.out.print(f"{found['rows']:,} training rows: {kinds}. Most worth a look, with their loss by epoch:")
    for row in found["look"][:count]:
        screen.out.print()
        screen.out.print(Text(clean(row["place"]), style="bold"), soft_wrap=True)
        entry = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        entry.add_row(Text("  loss", style="dim"), Text(f"{losses_in_words(row['losses'], '->')}: {row['why']}"))
        entry.add_row(Text("  asked", style="dim"), _passage(row["question"]))
        entry.add_row(Text("  answer", style="dim"), _passage(row["answer"]))
        screen.out.print(entry)


def _passage(text: str) -> Text:
    """Show a text without its empty lines, and not all of a long one."""
    lines = (line for line in clean(text).splitlines() if line.strip())
    return Text(screen.shorten("\n".join(lines), LONGEST))
