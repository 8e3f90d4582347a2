"""The verb `compare`: two finished runs are compared by their files; no model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heedful.begin import Name
from heedful.errors import RunError
from heedful.evaluate.summary import compare_runs
from heedful.report import screen
from heedful.report.page import compare_page
from heedful.run import Run, open_run


def compare(
    first: Run | Path | str, second: Run | Path | str, *, common: bool = False, data: Name = None
) -> dict[str, Any]:
    """Compare the second run with the first on rows that both were evaluated on; write a page of it into the second,
    where that can be written.

    The rows are the held-back ones, or those of `data`.
    """
    first, second = (open_run(run) for run in (first, second))
    on = None if data is None else str(data)
    result = compare_runs(first, second, common, on)
    try:
        screen.say(f"The comparison as a page: {compare_page(first, second, result, on)}")
    except RunError as error:  # the second may be somebody else's
        screen.say(f"The comparison is not kept as a page: {error.problem}")
    return result
