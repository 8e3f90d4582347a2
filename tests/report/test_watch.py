"""The served page: to this machine alone, by its own name, anew when the run's files change."""

from __future__ import annotations

import http.client
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.report.runs import finished_run
from tests.report.test_page import Browser, browser, choose, wait  # noqa: F401 (a fixture)

from heedful.cli import main
from heedful.errors import RunError, UsageError
from heedful.report.watch import Watcher
from heedful.run import Run


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Watcher, Run]]:
    run = finished_run(tmp_path / "mine")
    with Watcher(run, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, run
        server.shutdown()


def get(server: Watcher, path: str, host: str | None = None) -> tuple[int, str]:
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_it_serves_this_machine_by_its_own_name(served: tuple[Watcher, Run]) -> None:
    server, _ = served
    assert server.server_address[0] == "127.0.0.1"
    port = server.server_address[1]
    assert get(server, "/")[0] == 200
    assert get(server, "/", f"localhost:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", ""):
        assert get(server, "/", host or "x")[0] == 403
    assert get(server, "/../config.yaml")[0] == 404


def test_the_state_changes_with_the_run(served: tuple[Watcher, Run]) -> None:
    server, run = served
    before = get(server, "/state")[1]
    assert get(server, "/state")[1] == before
    assert f'data-live="{before}"' in get(server, "/")[1]
    run.log({"event": "step", "step": 61, "epoch": 2.1, "loss": 0.4, "tokens": 7000, "seconds": 0.2})
    after = get(server, "/state")[1]
    assert after != before
    assert f'data-live="{after}"' in get(server, "/")[1]


@pytest.mark.parametrize("port", ["0", "1234"])
def test_a_port_is_refused_where_nothing_is_served(port: str, tmp_path: Path, capsys: Any) -> None:
    run = finished_run(tmp_path / "mine")
    with pytest.raises(SystemExit) as end:
        main(["report", str(run.path), "--port", port])
    assert end.value.code == 2
    assert "--port has no effect without --watch. Add --watch, or leave it out." in capsys.readouterr().err
    assert not run.report_file.exists()


def test_a_port_in_use_is_said(served: tuple[Watcher, Run]) -> None:
    with pytest.raises(UsageError, match="Cannot serve on port"):
        Watcher(served[1], served[0].server_address[1])


def test_the_page_follows_without_being_opened_again(browser: Browser, served: tuple[Watcher, Run]) -> None:  # noqa: F811
    server, run = served
    run.evaluation_file.unlink()
    shutil.rmtree(run.model)
    browser.get_log("browser")
    browser.get(server.url)
    title = "return document.querySelector('h1').textContent"
    assert browser.execute_script(title) == "Step 60"
    run.log({"event": "step", "step": 61, "epoch": 2.1, "loss": 0.4, "tokens": 7000, "seconds": 0.2})
    wait(lambda: browser.execute_script(title) == "Step 61")
    wait(lambda: browser.execute_script("return document.getElementById('count').textContent") == "40 of 40 rows")
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    assert "asks its server on this machine" in browser.execute_script("return document.body.textContent")

    def fail() -> bytes:
        server.page = whole  # type: ignore[method-assign]
        raise RunError("A file is just being written.")

    whole, server.page = server.page, fail  # type: ignore[method-assign]
    assert choose(browser, "search", "row 18)") == "1 of 40 rows"
    browser.execute_script("document.querySelector('details').open = true")
    run.log({"event": "step", "step": 62, "epoch": 2.2, "loss": 0.4, "tokens": 7000, "seconds": 0.2})
    wait(lambda: browser.execute_script(title) == "Step 62")
    wait(lambda: browser.execute_script("return document.getElementById('count').textContent") == "1 of 40 rows")
    assert browser.execute_script("return document.querySelector('details').open")


def test_a_section_that_comes_later_gets_its_link(browser: Browser, served: tuple[Watcher, Run]) -> None:  # noqa: F811
    server, run = served
    evaluated = run.evaluation_file.read_bytes()
    run.evaluation_file.unlink()
    browser.get(server.url)
    links = "return [...document.querySelectorAll('nav a')].map((link) => link.hash)"
    sections = "return [...document.querySelectorAll('main section')].map((section) => `#${section.id}`)"
    live = "return document.documentElement.dataset.live"
    before = browser.execute_script(live)
    assert "#scores" not in browser.execute_script(links)
    browser.execute_script("document.querySelector('nav a').focus()")
    run.log({"event": "step", "step": 61, "epoch": 2.1, "loss": 0.4, "tokens": 7000, "seconds": 0.2})
    wait(lambda: browser.execute_script(live) != before)
    assert browser.execute_script("return document.activeElement.hash") == "#curves"
    run.evaluation_file.write_bytes(evaluated)
    wait(lambda: "#scores" in browser.execute_script(sections))
    assert browser.execute_script(links) == browser.execute_script(sections)
