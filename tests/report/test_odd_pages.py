"""What people look at holds for odd runs too: long names, long rows, other scripts, losses of any size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.browser import Browser, chromium
from tests.report.runs import evaluation, events, finished_run, responses
from tests.report.test_page import visit

from heedful.report.facts import Facts
from heedful.report.figures import histogram_plot, map_plot
from heedful.report.lines import curves_in_words
from heedful.report.page import compare_page, report, write_report
from heedful.settings import load_config
from heedful.system.atomic import read_json, write_json

ARABIC = "البحر أزرق (جدا)!"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("downloads")) as driver:
        yield driver


@pytest.mark.parametrize("width", [1280, 375])
def test_long_names_and_long_rows_leave_a_page_as_wide_and_about_as_long(
    browser: Browser, width: int, tmp_path: Path
) -> None:
    run, other = finished_run(tmp_path / ("r" * 180)), finished_run(tmp_path / "other")
    run.write_config(load_config(None, {"data.path": "d" * 200 + ".json"}))
    seen = read_json(run.receipt_file)
    seen["rows"][0]["place"] = "d" * 200 + ".json:1"
    write_json(run.receipt_file, seen)
    scores = evaluation()
    scores["models"]["base_own_template"] = {
        name: {**told, "value": 26000.0, "high": 26000.0} for name, told in scores["models"]["base"].items()
    }
    write_json(run.evaluation_file, scores)
    long = "word " * 10_000
    answered = [{**row, "instruction": long, "output": long} for row in responses(40)]
    write_json(run.responses_file, answered)
    found = read_json(run.data_map_file)
    found["look"] = [{**row, "question": long, "answer": long} for row in found["look"]]
    write_json(run.data_map_file, found)
    compared = compare_page(other, run, {**evaluation(names=("a", "b")), "differences": {}})
    for page in (write_report(run), compared):
        visit(browser, page, width=width)
        wide, tall = browser.execute_script(
            "const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]"
        )
        assert wide <= width and tall < 60_000


def test_text_runs_as_its_script_does_and_the_maps_key_shows_its_marks(browser: Browser, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    write_json(run.responses_file, [{**row, "output": ARABIC} for row in responses(40)])
    found = read_json(run.data_map_file)
    found["look"][0] |= {"question": ARABIC}
    write_json(run.data_map_file, found)
    visit(browser, write_report(run))
    script = "return [...document.querySelectorAll(arguments[0])].map(e => getComputedStyle(e)[arguments[1]])"
    assert browser.execute_script(script, ".texts > div:first-child p", "direction")[1] == "rtl"
    assert browser.execute_script(script, ".look tbody tr:first-child .text", "direction") == ["rtl", "ltr"]
    drawn = browser.execute_script(script, "#map .points", "stroke")
    assert browser.execute_script(script, "#map .key i", "backgroundColor") == drawn and len(set(drawn)) == 3


def test_rows_whose_updates_were_skipped_were_not_learned(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    run.metrics_file.unlink()
    for event in events(4):
        bad = event["event"] == "step" and event["step"] > 1
        run.log({**event, "epoch": event["epoch"] / 4, **({"loss": None} if bad else {})})
        if bad:
            run.log({"event": "skipped", "step": event["step"], "rows": ["x"] * 8})
    run.log({"event": "skipped", "step": 5, "rows": ["x"] * 8})  # after the last update that was logged
    facts = Facts(run)
    assert facts.rows_learned == 8
    assert "3 of 4 updates had no finite loss" in curves_in_words(facts)


def test_a_picture_says_no_more_than_it_shows(tmp_path: Path) -> None:
    told = histogram_plot({"edges": [0, 5, 10, 15], "rows": [12, 30, 26]})["alt"]
    assert told == "68 rows of up to 14 tokens; the highest bar has 30, of 5 to 9."
    run = finished_run(tmp_path / "mine")
    assert "and on rows held back" in report(run) and "under the dotted line" in report(run)
    run.metrics_file.write_text("")
    for event in events():
        if event["event"] == "step":
            run.log(event)
    assert "and on rows held back" not in report(run)


@pytest.mark.parametrize("top", [1.0, 5.0, 17.0, 26_000.0, 3e7])
def test_the_maps_scale_fits_its_losses(top: float) -> None:
    losses = np.linspace(top / 50, top, 20)
    ticks = map_plot(losses, losses, ["easy"] * 20, ("x", "y"))["across"]
    places = [tick["at"] for tick in ticks]
    assert len(ticks) > 2 and min(np.diff(places)) > 24 and places[-1] > 300
