"""The page's files, the report and feedback over HTTP: what is served, under which policy, and what is not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from heedful.records import Sampling
from heedful.run import Run
from heedful.serve import problems
from heedful.serve.page_routes import page_routes
from heedful.system.atomic import write_json

JSON = {"Content-Type": "application/json"}
SERVED = Sampling(temperature=0.5, repetition_penalty=1.2, top_k=3)


def client_of(run: Run | None) -> TestClient:
    app = FastAPI()
    app.include_router(page_routes("mine", run, SERVED))
    return TestClient(app)


@pytest.fixture
def client(run: Run) -> Iterator[TestClient]:
    with client_of(run) as client:
        yield client


def test_every_file_is_served_under_the_strict_policy(client: TestClient) -> None:
    files = [entry.name for entry in (resources.files("heedful.serve") / "page").iterdir()]
    assert {"index.html", "app.js", "style.css", "favicon.svg"} <= set(files)
    for name in files:
        answer = client.get(f"/page/{name}")
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200, name
        assert "default-src 'none'" in policy and "unsafe" not in policy and "trusted-types 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    kinds = {name: client.get(f"/page/{name}").headers["content-type"].split(";")[0] for name in files}
    assert (kinds["app.js"], kinds["style.css"]) == ("text/javascript", "text/css")
    assert (kinds["index.html"], kinds["favicon.svg"]) == ("text/html", "image/svg+xml")
    assert client.get("/").content == client.get("/page/index.html").content


def test_the_page_has_no_script_or_style_within_and_names_no_other_host() -> None:
    for entry in (resources.files("heedful.serve") / "page").iterdir():
        text = entry.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in text and "insertAdjacent" not in text and "eval(" not in text, entry.name
        assert "@import" not in text and "url(" not in text, entry.name
        assert not any(address in text for address in ('"http:', '"https:', "'http", "//cdn")), entry.name
        if entry.name == "index.html":
            assert (
                text.count("<script") == 1 and "<style" not in text and "style=" not in text and "onclick" not in text
            )


def test_every_text_of_the_interface_is_used() -> None:
    """By its name in quotation marks."""
    page = resources.files("heedful.serve") / "page"
    english = (page / "text.js").read_text("utf-8").partition("ENGLISH = {")[2].partition("\n};")[0]
    rest = "".join(entry.read_text("utf-8") for entry in page.iterdir())
    names = re.findall(r"^  (\w+):", english, re.MULTILINE)
    assert len(names) > 80 and [name for name in names if f'"{name}"' not in rest] == []


def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/page/app.js").headers["etag"]
    again = client.get("/page/app.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/page/../page.py", "/page/..%2fpage.py", "/page//etc/passwd", "/page/%2e%2e/x", "/page/", "/page/x.js"]
)
def test_no_path_leads_out_of_the_page(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_report_is_shown_in_a_sandbox(client: TestClient, run: Run) -> None:
    assert client.get("/report").status_code == 404
    assert client.get("/about").json()["report"] is False
    (run.path / "report.html").write_text("<h1>Report</h1>", encoding="utf-8")
    answer = client.get("/report")
    assert answer.text == "<h1>Report</h1>"
    policy = answer.headers["content-security-policy"]
    assert "sandbox allow-scripts;" in policy and "default-src 'none'" in policy and "allow-same-origin" not in policy
    assert (
        client.get("/about").json()
        == {
            "name": "mine",
            "version": client.get("/about").json()["version"],
            "run": f"'{run.path}'",  # as a shell takes it
            "run_id": hashlib.sha256(str(run.path).encode()).hexdigest()[:16],
            "report": True,
            "sampling": {"temperature": 0.5, "top_p": 1.0, "repetition_penalty": 1.2, "max_tokens": 256},
        }
    )


def test_a_run_is_known_again_where_its_folder_moved(run: Run, tmp_path: Path) -> None:
    def known_as(run: Run) -> str:
        with client_of(run) as client:
            return str(client.get("/about").json()["run_id"])

    without = known_as(run)
    write_json(run.provenance_file, {"id": "a1", "updates": 7})
    began = known_as(run)
    moved = Run(run.path.rename(tmp_path / "moved"))
    write_json(moved.provenance_file, {"id": "a1", "updates": 9})
    assert known_as(moved) == began != without
    write_json(moved.provenance_file, {"id": "b2"})
    assert known_as(moved) not in (began, without)
    moved.provenance_file.write_text("{")
    assert known_as(moved) not in (began, without)


def test_an_address_of_the_report_works_once(client: TestClient, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.path / "report.html").write_text("<h1>Report</h1>", encoding="utf-8")
    address = client.post("/report").json()["address"]
    assert address.startswith("/page/report/")
    assert client.get(address).text == "<h1>Report</h1>"
    assert client.get(address).status_code == 404
    late = client.post("/report").json()["address"]
    monkeypatch.setattr("heedful.serve.page_routes.TICKET_SECONDS", -1.0)
    assert client.get(late).status_code == 200
    assert client.get(client.post("/report").json()["address"]).status_code == 404


def test_the_event_loop_knows_the_addresses_and_threads_read_the_report(
    client: TestClient, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads would change the table of addresses while others look through it; a slow disk would hold up all."""
    (run.path / "report.html").write_text("<h1>Report</h1>", encoding="utf-8")
    where: set[str] = set()

    def noted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any) -> Any:
            where.add(f"{name} in {'a thread' if asyncio._get_running_loop() is None else 'the loop'}")
            return work(*arguments)

        return do

    monkeypatch.setattr(
        "heedful.serve.page_routes.time", SimpleNamespace(monotonic=noted("asked and used", time.monotonic))
    )
    monkeypatch.setattr("pathlib.Path.read_bytes", noted("read", Path.read_bytes))
    assert client.get(client.post("/report").json()["address"]).text == "<h1>Report</h1>"
    assert where == {"asked and used in the loop", "read in a thread"}


def test_feedback_is_kept_and_counted(client: TestClient) -> None:
    said = {"id": "x", "model": "m", "messages": [{"role": "user", "content": "Hi"}], "answer": "Ho", "rating": "up"}
    assert client.get("/feedback").json() == {"up": 0, "down": 0, "better": 0}
    assert client.post("/feedback", json=said).json() == {"up": 1, "down": 0, "better": 0}
    assert client.post("/feedback", json=said | {"rating": None}).json() == {"up": 0, "down": 0, "better": 0}
    assert client.post("/feedback", json=said | {"rating": "so-so"}).status_code == 422
    assert client.post("/feedback", json=said | {"messages": []}).status_code == 422


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"answer": "", "rating": "up"}, "messages (assistant) is empty."),
        ({"better": " "}, "messages (assistant) is empty."),
        ({"answer": "\ud800"}, "a text holds half of a surrogate pair, which is not a character."),
        (
            {"messages": [{"role": "assistant", "content": "Hi"}]},
            "message 1 is of the role assistant, first; system or user should stand there.",
        ),
    ],
)
def test_feedback_that_nothing_could_be_learned_from_is_told_why(wrong: Any, told: str, run: Run) -> None:
    app = FastAPI()
    app.include_router(page_routes("mine", run, SERVED))
    problems.install(app)
    said = {"id": "x", "model": "m", "messages": [{"role": "user", "content": "Hi"}], "answer": "Ho"}
    answer = TestClient(app).post("/feedback", content=json.dumps(said | wrong), headers=JSON)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, told)


def test_feedback_that_cannot_be_kept_is_a_sentence(client: TestClient, run: Run) -> None:
    (run.path / "feedback.sqlite").mkdir()
    said = {"id": "x", "model": "m", "messages": [{"role": "user", "content": "Hi"}], "answer": "Ho", "rating": "up"}
    answer = client.post("/feedback", json=said)
    assert answer.status_code == 500
    assert "feedback.sqlite cannot be used" in answer.json()["detail"]


def test_without_a_run_there_is_neither_report_nor_feedback() -> None:
    with client_of(None) as client:
        assert client.get("/about").json()["run"] is None
        assert [client.get(path).status_code for path in ("/report", "/feedback", "/")] == [404, 404, 200]
