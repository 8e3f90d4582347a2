"""The whole story on the defaults, one screen at a time: receipt, training, before and after, scores, what next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from heedful.checking import check
from heedful.errors import BudgetTooShort, typed
from heedful.report import screen, tables
from heedful.report.answers import questions
from heedful.report.facts import Facts
from heedful.run import Run

SHOWN_ANSWERS = 8
TRAINING_SECONDS = 180.0  # of the six minutes that the whole story may take
SLOWER = 3.0  # times what a single update and all around it would need, on machines that are too slow for that


def tell(out: Path | None, settings: Mapping[str, Any]) -> Run:
    """Check, train and compare, and print each; return the run."""
    started = time.monotonic()
    _title("1  The data: what became of each row")
    ready = check(settings=settings)
    screen.show_receipt(ready.receipt)
    from heedful import pipeline  # takes seconds, in which the receipt is read

    _title("2  Training: a pretrained model learns from the rows")
    try:
        run = pipeline.train(settings=settings, out=out, budget=TRAINING_SECONDS)
    except BudgetTooShort as error:  # as where much else is running
        screen.say(f"{error.problem} So the demo takes longer.")
        run = pipeline.train(settings=settings, out=out, budget=SLOWER * error.needed)
    show_scores(Facts(run))
    _title("5  Yours now")
    screen.out.print(f"The run is in {run.path} (model/, receipt.json, loss-plot.pdf, responses.json, ...).")
    screen.out.print(f"Look at it:        {run.report_file}")
    screen.out.print(f"Talk to it:        heedful chat {typed(run.path)}")
    screen.out.print("Train on your own: heedful train YOUR-FILE.json")
    screen.out.print(f"All of this took {(time.monotonic() - started) / 60:.1f} minutes.", style="dim")
    return run


def show_scores(facts: Facts) -> None:
    """Show the answers that changed, and the scores; or that there are none, where no rows were held back."""
    _title("3  Before and after")
    if not facts.responses or not facts.evaluation:
        screen.out.print("No answers were compared: no rows were held back for it, or the settings leave it out.")
        return
    asked = zip(questions(facts, facts.responses), facts.responses, strict=True)
    rows = [(*texts, row["base_response"], row["model_response"]) for texts, row in asked]
    screen.show_answers([row for row in rows if row[2].strip() != row[3].strip()][:SHOWN_ANSWERS])
    _title("4  The scores, and how sure we are")
    tables.show_evaluation(facts.evaluation)


def _title(text: str) -> None:
    screen.out.print()
    screen.out.rule(Text(text, style="bold"), align="left")
