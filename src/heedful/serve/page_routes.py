"""The web page and what only it needs: its files, the run's report, feedback on answers.

The files are read from the package once, by name, so no path of a request is ever a path on the disk. The page may run
scripts and styles from this server and nothing else; the report, which is one file with its own scripts, is shown in a
sandbox without origin and without network. What lies under /page/ is open to whoever may connect; the rest asks for
the key.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from importlib import resources
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

import heedful
from heedful.errors import HeedfulError, typed
from heedful.records import Sampling
from heedful.run import Run
from heedful.serve.feedback import Feedback, Opinion

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
    " 'none'"
)
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
COMMON = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-DNS-Prefetch-Control": "off",  # a link in an answer is not looked up before it is followed
}
TICKET_SECONDS = 60.0
SHOWN = ("temperature", "top_p", "repetition_penalty", "max_tokens")  # of a Sampling, what the page can change
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def page_routes(name: str, run: Run | None, served: Sampling) -> APIRouter:
    """Serve the page for a model, and the run's report and feedback if it belongs to a run.

    `served` is how the server samples where a request says nothing; its `max_tokens` are the most that it then answers.
    """
    router = APIRouter(include_in_schema=False)
    feedback = Feedback(run) if run else None

    @router.get("/about")
    def about() -> dict[str, Any]:
        return {
            "name": name,
            "version": heedful.__version__,
            "run": typed(run.path) if run else None,  # the page shows it in commands
            "run_id": run.identity if run else None,
            "report": run is not None and run.report_file.is_file(),
            "sampling": {field: getattr(served, field) for field in SHOWN},
        }

    @router.get("/feedback")
    def counts() -> dict[str, int]:
        return _counts(feedback)

    @router.post("/feedback")
    def put(opinion: Opinion, run_id: str | None = None) -> dict[str, int]:
        """Keep an opinion, unless it is meant for another run than this server's, as a page may be open for long."""
        if run is not None and run_id not in (None, run.identity):
            raise HTTPException(409, "Another run is served now than when this page was opened; nothing was kept.")
        return _counts(feedback, opinion)

    _add_files(router)
    _add_report(router, run)
    return router


def _counts(feedback: Feedback | None, opinion: Opinion | None = None) -> dict[str, int]:
    """Keep an opinion, if there is one; count what is kept."""
    if feedback is None:
        raise HTTPException(404, "Feedback is kept beside a run, and this server has only a model.")
    try:
        if opinion is not None:
            feedback.put(opinion)
        return feedback.counts()
    except HeedfulError as error:
        raise HTTPException(500, str(error)) from error


def _add_files(router: APIRouter) -> None:
    files = {
        entry.name: (entry.read_bytes(), kind)  # not as the system names it, which may call a script plain text
        for entry in (resources.files("heedful.serve") / "page").iterdir()
        if (kind := KINDS.get(entry.name.rpartition(".")[2]))
    }

    @router.get("/")
    def index(request: Request) -> Response:
        return _file(request, *files["index.html"])

    @router.get("/page/{name}")
    def page_file(request: Request, name: str) -> Response:
        if name not in files:
            raise HTTPException(404, f"The page has no file {name[:80]!r}.")
        return _file(request, *files[name])


def _file(request: Request, content: bytes, kind: str) -> Response:
    """Answer with a file, or with 304 where the browser has this very one."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = COMMON | {"Content-Security-Policy": PAGE_POLICY, "ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def _add_report(router: APIRouter, run: Run | None) -> None:
    """Show the report at /report, and at an address without a key that works once, because a frame cannot send one."""
    tickets: dict[str, float] = {}  # the event loop's alone: a thread could add one while another looks through them

    @router.get("/report")
    def report() -> Response:
        """Read the report; it may be some megabytes, and its disk slow."""
        file = run.report_file if run else None
        if file is None or not file.is_file():
            raise HTTPException(404, "There is no report: `heedful report RUN` makes it.")
        headers = COMMON | {"Content-Security-Policy": REPORT_POLICY, "Cache-Control": "no-store"}
        return Response(file.read_bytes(), media_type="text/html; charset=utf-8", headers=headers)

    @router.post("/report")
    async def ticket() -> dict[str, str]:
        now = time.monotonic()
        for old in [old for old, end in tickets.items() if end < now]:
            del tickets[old]
        new = secrets.token_urlsafe(24)
        tickets[new] = now + TICKET_SECONDS
        return {"address": f"/page/report/{new}"}

    @router.get("/page/report/{ticket}")
    async def report_once(ticket: str) -> Response:
        if tickets.pop(ticket, 0.0) < time.monotonic():
            raise HTTPException(404, "This address of the report worked once; ask for another.")
        return await run_in_threadpool(report)
