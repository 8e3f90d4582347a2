"""`heedful report RUN`: the page and the model card written anew, or the page served while the run goes on."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from heedful.commands.arguments import RunPath, refuse_ignored

PORT = 8765


def report(
    run: RunPath,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the report on this machine and follow the training.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help=f"Port of --watch, {PORT} if not given; 0 takes a free one."),
    ] = None,
) -> None:
    """Write a run's report and model card, or serve the report here."""
    if not watch:
        refuse_ignored("without --watch", {"--port": port is not None})
    from heedful.report import screen
    from heedful.report.page import write_pages
    from heedful.run import open_run

    found = open_run(run)
    if watch:
        from heedful.report.watch import Watcher

        with Watcher(found, PORT if port is None else port) as server, suppress(KeyboardInterrupt):
            screen.out.print(f"The report is at {server.url} and follows the run; Ctrl-C ends it.", soft_wrap=True)
            server.serve_forever()
        return
    screen.out.print(str(write_pages(found)), soft_wrap=True)
