"""The endpoints of the service, and FastAPI, which documents them and answers all the rest."""

import json
from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi_offline import FastAPIOffline

from serve.schemas import Answer, Answers, Models, Problem, RankQuery, Similar

# Of a bundle's manifest, what says nothing of paths, settings or figures.
PUBLIC = ("version", "format", "created", "topology")


class Service(Protocol):
    """What answers; each method takes the query of its endpoint and may raise RuleError."""

    async def recommend(self, query: Any) -> Mapping[str, Any]:
        """Answer `POST /recommend`."""

    async def recommend_batch(self, query: Any) -> Mapping[str, Any]:
        """Answer `POST /recommend/batch`."""

    async def rank(self, query: Any) -> Mapping[str, Any]:
        """Answer `POST /rank`."""

    async def similar(self, query: Any) -> Mapping[str, Any]:
        """Answer `POST /similar`."""

    async def ready(self) -> None:
        """Raise where a stage cannot be reached."""


class Endpoint:
    """A request that is answered by the service: its models, and what it is for.

    Args:
        query: the model of the body.
        answer: the model of what is answered.
        call: answers a query.
        words: of the documentation.
    """

    def __init__(self, query: Any, answer: Any, call: Any, words: str) -> None:
        self.query, self.answer, self.call, self.words = query, answer, call, words


def endpoints(service: Service, max_k: int) -> dict[str, Endpoint]:
    """Return the endpoints by their paths."""
    models = Models(max_k)
    return {
        "/recommend": Endpoint(
            models.query,
            Answer,
            service.recommend,
            "Recommend items to a known user, to a new one with a history, or to anybody.",
        ),
        "/recommend/batch": Endpoint(
            models.batch, Answers, service.recommend_batch, "Answer up to 1,000 requests at once."
        ),
        "/rank": Endpoint(
            RankQuery,
            Answer,
            service.rank,
            "Bring given items into the order in which they would be recommended.",
        ),
        "/similar": Endpoint(
            models.similar, Similar, service.similar, "Find items like some, and unlike others."
        ),
    }


def documented(
    endpoints: Mapping[str, Endpoint],
    service: Service,
    about: Mapping[str, Any],
    page: APIRouter,
) -> FastAPI:
    """Return the application of everything but the endpoints, which it documents.

    Args:
        endpoints: by their paths.
        service: asked whether it is ready.
        about: the bundle's manifest and the topology.
        page: the routes of the page.
    """
    # /docs has to be read where there is no internet, too.
    app = FastAPIOffline(
        title="Raytower", version=str(about["version"]), summary="Recommendations."
    )
    for path, endpoint in endpoints.items():
        _document(app, path, endpoint)
    app.include_router(page)

    @app.get("/healthz", responses={503: {"model": Problem}})
    async def healthz() -> Response:
        """Whether both stages have the same bundle loaded and answer."""
        try:
            await service.ready()
        except Exception as error:
            return _json(503, {"detail": f"not ready: {type(error).__name__}: {error}"})
        return _json(200, {"status": "ready", "bundle": about["version"]})

    @app.get("/bundle")
    async def bundle(request: Request) -> Response:
        """The bundle's version and the topology; with the scope `admin` its whole manifest."""
        if request.scope["asker"].may("admin"):
            return _json(200, about)
        return _json(200, {name: about[name] for name in PUBLIC if name in about})

    return app


def _document(app: FastAPI, path: str, endpoint: Endpoint) -> None:
    async def call(body: Any) -> Any:
        return await endpoint.call(body)

    # The model with this application's largest k, which is only known now.
    call.__annotations__["body"] = endpoint.query
    call.__name__, call.__doc__ = path.strip("/").replace("/", "_"), endpoint.words
    statuses = (401, 403, 408, 413, 429, 503)
    app.post(
        path,
        response_model=endpoint.answer,
        response_model_exclude_unset=True,
        responses={status: {"model": Problem} for status in statuses},
    )(call)


def encode(value: Any) -> bytes:
    """Return a value as JSON; orjson refuses integers beyond 64 bits, which ids may have."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def _json(status: int, value: Any) -> Response:
    return Response(encode(value), status_code=status, media_type="application/json")
