"""Models -> a web application: OpenAI's routes behind a guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from heedful import __version__
from heedful.generate.engine import GREEDY, Engine
from heedful.records import Sampling
from heedful.serve import problems
from heedful.serve.counters import Counters
from heedful.serve.guard import AccessPolicy, Guard
from heedful.serve.limits import Limits
from heedful.serve.requests import RequestReader
from heedful.serve.routes import routes
from heedful.serve.scheduler import Scheduler

OPEN = AccessPolicy()  # no key: for this machine alone
LIMITS = Limits()


def create_app(
    models: Mapping[str, Engine],
    policy: AccessPolicy = OPEN,
    limits: Limits = LIMITS,
    defaults: Sampling = GREEDY,
    pages: Sequence[APIRouter] = (),
) -> FastAPI:
    """Serve models under their names; the first one answers requests that name none.

    `defaults` hold where a request does not say otherwise. `pages` are further routes: those at "/" and under
    guard.PAGE are open to whoever may connect, the others need the key too. `app.state.scheduler` runs the models.
    """
    scheduler, counters = Scheduler(models, limits), Counters()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not scheduler.alive:
            scheduler.start()
        yield
        scheduler.close()

    app = FastAPI(title="heedful", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.scheduler, app.state.limits = scheduler, limits
    problems.install(app)
    app.include_router(routes(RequestReader(models, limits, defaults), scheduler, counters))
    for page in pages:
        app.include_router(page)
    app.add_middleware(Guard, policy=policy, limits=limits, counters=counters)
    if policy.origins:  # outside of the guard, so that a page can read why it was refused
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(policy.origins),
            allow_methods=["GET", "POST", "OPTIONS"],
            allow_headers=["*"],
        )
    return app
