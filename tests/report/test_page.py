"""The page in a real browser: it asks no network, shows rows as text, its filters work, it reads in both schemes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.browser import Browser, chromium, console, forget_logs, requested
from tests.report.runs import EVIL, evaluation, finished_run, receipt

from heedful.report.answers import questions
from heedful.report.facts import Facts
from heedful.report.page import compare_page, report, write_pages, write_report
from heedful.run import Run
from heedful.settings import load_config
from heedful.system.atomic import write_json


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(finished_run(tmp_path_factory.mktemp("runs") / "mine"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("downloads")) as driver:
        yield driver


def visit(browser: Browser, path: Path, scheme: str = "light", width: int = 1280) -> None:
    forget_logs(browser)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(path.as_uri())
    wait(lambda: browser.execute_script("return document.getElementById('count')?.textContent"))


def wait(condition: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def choose(browser: Browser, id: str, value: str) -> str:
    """Choose or type something; give what the page counts then."""
    script = """const e = document.getElementById(arguments[0]); e.value = arguments[1];
        e.dispatchEvent(new Event(e.tagName === 'INPUT' ? 'input' : 'change'));
        return document.getElementById('count').textContent"""
    return str(browser.execute_script(script, id, value))


def shown(browser: Browser) -> list[str]:
    return list(
        browser.execute_script("return [...document.querySelectorAll('.answer .meta')].map(e => e.textContent)")
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_without_network_or_complaint(browser: Browser, page: Path, scheme: str, width: int) -> None:
    visit(browser, page, scheme, width)
    assert console(browser) == []
    assert [url[:60] for url in requested(browser)] == [page.as_uri()[:60]]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    image = browser.execute_script("const i = document.querySelector('picture img'); return [i.naturalWidth, i.alt]")
    assert image[0] > 100
    assert "loss" in image[1]


def test_rows_are_text(browser: Browser, page: Path) -> None:
    """A row with markup, or one that would end the script that holds it, shows as it is."""
    visit(browser, page)
    assert browser.execute_script("return document.querySelectorAll('img:not(picture img)').length") == 0
    assert browser.execute_script("return document.scripts.length") == 2
    assert EVIL in browser.execute_script("return document.querySelector('.answer').textContent")
    assert "ROUGE-L" in shown(browser)[0]  # as scores.jsonl has it
    assert EVIL in browser.execute_script("return document.getElementById('map').textContent")
    assert EVIL in browser.execute_script("return document.getElementById('tokens').textContent")


def test_filters_and_pages_work(browser: Browser, page: Path) -> None:
    visit(browser, page)
    assert choose(browser, "search", "row 18)") == "1 of 40 rows"
    assert "row 18" in shown(browser)[0]
    assert choose(browser, "search", "WORD nothing-like-it") == "0 of 40 rows"
    assert choose(browser, "search", "") == "40 of 40 rows"
    assert choose(browser, "filter", "exact") == "21 of 40 rows"
    assert choose(browser, "filter", "wrong") == "19 of 40 rows"
    assert choose(browser, "filter", "endless") == "0 of 40 rows"
    assert choose(browser, "filter", "gained") == "40 of 40 rows"
    choose(browser, "order", "longest")
    assert "row 1)" in shown(browser)[0]
    choose(browser, "order", "file")
    assert len(shown(browser)) == 20
    browser.execute_script("document.getElementById('next').click()")
    assert "row 21" in shown(browser)[0]
    assert browser.execute_script("return document.getElementById('next').disabled")


def test_words_that_differ_are_marked(browser: Browser, page: Path) -> None:
    visit(browser, page)
    choose(browser, "search", "Say word 2.")
    marks = "return [...document.querySelectorAll('.answer')][0].querySelectorAll('.texts > div:last-child mark')"
    assert [mark.text for mark in browser.execute_script(marks)] == ["3"]
    choose(browser, "against", "none")
    assert browser.execute_script(marks) == []


CONTRAST = """
const channel = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c[3] === 1) return c; } return [255, 255, 255]; };
const worst = [];
for (const e of document.querySelectorAll('body *')) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
  if (['SCRIPT', 'STYLE', 'TITLE', 'OPTION'].includes(e.tagName) || e.disabled) continue;
  const svg = e.closest('svg');
  const a = light(parse(svg ? getComputedStyle(e).fill : getComputedStyle(e).color)), b = light(ground(e));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) worst.push([e.tagName, e.className.baseVal ?? e.className, e.textContent.slice(0, 30), ratio]);
}
return worst;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_and_pictures_have_words(browser: Browser, page: Path, scheme: str) -> None:
    visit(browser, page, scheme)
    assert browser.execute_script(CONTRAST) == []
    grounds = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", grounds)[:3])) > 384) == (scheme == "light")
    silent = (
        "return [...document.querySelectorAll('svg, img')].filter(e => !(e.getAttribute('aria-label') || e.alt)).length"
    )
    assert browser.execute_script(silent) == 0
    nameless = "return [...document.querySelectorAll('input, select')].filter(e => !e.ariaLabel).length"
    assert browser.execute_script(nameless) == 0
    levels = browser.execute_script("return [...document.querySelectorAll('h1, h2, h3')].map(e => +e.tagName[1])")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_ten_thousand_rows_stay_small_and_open(browser: Browser, tmp_path: Path) -> None:
    path = write_report(finished_run(tmp_path / "large", rows=10_000, trained=10_000))
    assert path.stat().st_size < 5_000_000
    visit(browser, path)
    assert choose(browser, "search", "row 10000)") == "1 of 10,000 rows"


def test_two_runs_on_one_page(browser: Browser, tmp_path: Path) -> None:
    a, b = finished_run(tmp_path / "first"), finished_run(tmp_path / "second")
    found = evaluation(names=("first", "second"), verdict="within noise")
    path = compare_page(a, b, found | {"differences": {"train.epochs": [2, 3]}})
    visit(browser, path)
    assert console(browser) == []
    text = browser.execute_script("return document.body.textContent")
    assert "second and first cannot be told apart: within noise." in text
    assert "train.epochs" in text
    assert browser.execute_script("return document.querySelector('h1').textContent") == "Within noise"
    assert browser.execute_script("return document.querySelectorAll('.answer').length") == 20


def test_a_page_of_a_run_that_has_only_begun(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_config(load_config())
    assert "No update was logged. The run is not finished." in report(run)
    write_json(run.provenance_file, {"diverged": True})
    assert "No update was logged. The training diverged, and there is no model." in report(run)
    run.provenance_file.unlink()
    run.log({"event": "step", "step": 1, "epoch": 0.1, "loss": None, "tokens": 10, "seconds": 0.1})
    assert "loss not finite" in report(run)


def test_without_the_rows_losses_there_is_no_data_map(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    assert 'id="map"' in report(run)
    run.row_losses_file.unlink()
    assert 'id="map"' not in report(run)


DAMAGED = ("receipt.json", "provenance.json", "data-map.json", "evaluation.json", "responses.json", "scores.jsonl")


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_is_damaged_is_left_out_as_one_that_is_missing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(tmp_path / "mine")
    run.model.mkdir(exist_ok=True)
    (run.path / name).write_bytes((run.path / name).read_bytes()[:9])
    html = write_pages(run).read_text()
    told = capsys.readouterr().err
    assert told.count(f"Cannot read {run.path / name}: ") == told.count("It is left out.") == 1
    (run.path / name).unlink()
    assert report(run) == html


def test_a_run_that_diverged_when_trained_on_says_of_what_its_model_is(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    assert "the model is of before" not in report(run)
    write_json(run.provenance_file, run.provenance() | {"diverged": True})
    assert "when it was trained on: the model is of before" in report(run)


def test_further_parts_of_an_evaluation_are_shown(tmp_path: Path) -> None:
    html = report(finished_run(tmp_path / "mine"))
    for text in ("Did it forget?", "arithmetic", "What a judge says", "prompt 1,200, completion 30", "so many words"):
        assert text in html


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    assert report(run) == report(run)


def test_a_run_is_reproduced_by_one_command(tmp_path: Path) -> None:
    html = report(finished_run(tmp_path / "mine"))
    found = re.search(r"<code>(heedful train .*?)</code>", html)
    assert found is not None
    assert "heedful train rows.json --model smollm2-135m --set train.lr=0.0002" in found[1]


def test_rows_of_any_format_are_shown(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    messages = [{"role": "user", "content": "Say A."}, {"role": "assistant", "content": "A."}]
    row = {"messages": messages, "place": "x:1", "base_response": "B", "model_response": "A."}
    write_json(run.responses_file, [row])
    kept = receipt()
    write_json(run.receipt_file, kept | {"data": kept["data"] | {"format": "messages", "columns": {}}})
    assert questions(Facts(run), [row]) == [("Say A.", "A.")]
    assert report(run)


def test_questions_are_those_that_the_model_was_asked(tmp_path: Path) -> None:
    """Rows are read as the run's receipt says: they may look like another format, and the first lack a column."""
    run = finished_run(tmp_path / "mine")
    kept = receipt()
    columns = {"instruction": "instruction", "response": "response", "context": "about"}
    write_json(run.receipt_file, kept | {"data": kept["data"] | {"format": "dolly", "columns": columns}})
    first = {"instruction": "Name a fruit.", "response": "Apple.", "prompt": "### Name a fruit. ###"}
    rows = [first, {"instruction": "And here?", "response": "Pear.", "about": "A pear."}]
    assert questions(Facts(run), rows) == [("Name a fruit.", "Apple."), ("And here?\n\nA pear.", "Pear.")]

    other = [{"question": "Which?", "answer": "Both."}]
    assert questions(Facts(run, "other.json"), other) == [("Which?", "Both.")]  # whose format is their own
