"""The HTTP API as an ASGI application: validation, JSON, status codes, OpenAPI at /docs.

Requests are handled on bare ASGI, which takes a fraction of FastAPI's time; FastAPI documents them
and handles everything else.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

import orjson
from fastapi import FastAPI, Response
from fastapi_offline import FastAPIOffline
from pydantic import ValidationError
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from serve.config import ServeArgs
from serve.schemas import Answer, Answers, Models, Problem, RankQuery, Similar
from train.recommender.filters import RuleError

# Types of ASGI (https://asgi.readthedocs.io).
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class OverloadedError(RuntimeError):
    """More requests wait than would be answered in time."""


UNAVAILABLE = (BackPressureError, DeploymentUnavailableError, RayActorError, OverloadedError)
# Seconds after which to try again where there was no room.
RETRY_AFTER = 1
# Of a body full of mistakes, so many are answered, and so many letters of each value.
MAX_ERRORS = 20
MAX_ECHO = 200


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


class Application:
    """The ASGI application of a replica.

    Args:
        service: answers requests.
        about: the answer of `GET /bundle`; its `version` is the bundle's.
        args: the limits of requests.
    """

    def __init__(self, service: Service, about: Mapping[str, Any], args: ServeArgs) -> None:
        self._endpoints = endpoints(service, args.max_k)
        self._args = args
        self._rest = _documented(self._endpoints, service.ready, about)
        # Ray matches every request against these for its metrics: the frequent one comes first.
        self.routes = sorted(self._rest.routes, key=lambda route: route.path != "/recommend")  # type: ignore[attr-defined]
        self.router = self._rest.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if (endpoint := self._endpoints.get(path)) is not None:
                status, body = await self._answer(endpoint, receive)
                await _respond(send, status, body)
                return
        await self._rest(scope, receive, send)

    async def _answer(self, endpoint: Endpoint, receive: Receive) -> tuple[int, Any]:
        limit, patience = self._args.max_body, self._args.read_timeout
        try:
            async with asyncio.timeout(patience):
                body = await _read(receive, limit)
        except TimeoutError:
            return 408, {"detail": f"the body did not come within {patience:g} s"}
        if body is None:
            return 413, {"detail": f"the body is too large: at most {limit} bytes are accepted"}
        try:
            query = endpoint.query.model_validate_json(body)
        except ValidationError as error:
            return 422, {"detail": _detail(error)}
        try:
            return 200, await endpoint.call(query)
        except RuleError as error:
            return 422, {"detail": [_rule(error)]}
        except UNAVAILABLE as error:
            return 503, {"detail": f"overloaded or starting, try again: {type(error).__name__}"}


def encode(value: Any) -> bytes:
    """Return a value as JSON; orjson refuses integers beyond 64 bits, which ids may have."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


async def _read(receive: Receive, limit: int) -> bytes | None:
    """Return the body, or None where it is larger than `limit` bytes (it is read all the same)."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body if len(body) <= limit else None
    chunks, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        size += len(message.get("body", b""))
        if size <= limit:
            chunks.append(message.get("body", b""))
    return b"".join(chunks) if size <= limit else None


async def _respond(send: Send, status: int, value: Any) -> None:
    body = encode(value)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _detail(error: ValidationError) -> list[dict[str, Any]]:
    """Return validation errors in FastAPI's format: location, expectation, input."""
    return [
        {
            "type": entry["type"],
            "loc": ["body", *entry["loc"]],
            "msg": entry["msg"],
            "input": _short(entry["input"]),
        }
        for entry in error.errors(include_url=False, include_context=False)[:MAX_ERRORS]
    ]


def _short(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = str(value)
    return value if len(text) <= MAX_ECHO else f"{text[:MAX_ECHO]}..."


def _rule(error: RuleError) -> dict[str, Any]:
    """Return a rule that cannot be followed in FastAPI's format."""
    place, words = ["body", *error.place], error.args[0]
    return {"type": "rule", "loc": place, "msg": words, "input": _short(error.given)}


def _documented(
    endpoints: Mapping[str, Endpoint],
    ready: Callable[[], Awaitable[None]],
    about: Mapping[str, Any],
) -> FastAPI:
    # /docs has to be read where there is no internet, too.
    app = FastAPIOffline(
        title="Raytower", version=str(about["version"]), summary="Recommendations."
    )
    for path, endpoint in endpoints.items():
        _document(app, path, endpoint)

    @app.get("/healthz", responses={503: {"model": Problem}})
    async def healthz() -> Response:
        """Whether both stages have the same bundle loaded and answer."""
        try:
            await ready()
        except Exception as error:
            return _json(503, {"detail": f"not ready: {type(error).__name__}: {error}"})
        return _json(200, {"status": "ready", "bundle": about["version"]})

    @app.get("/bundle")
    async def bundle() -> Response:
        """The served bundle's manifest, and the topology."""
        return _json(200, about)

    return app


def _document(app: FastAPI, path: str, endpoint: Endpoint) -> None:
    async def call(body: Any) -> Any:
        return await endpoint.call(body)

    # The model with this application's largest k, which is only known now.
    call.__annotations__["body"] = endpoint.query
    call.__name__, call.__doc__ = path.strip("/").replace("/", "_"), endpoint.words
    statuses = (408, 413, 503)
    app.post(
        path,
        response_model=endpoint.answer,
        response_model_exclude_unset=True,
        responses={status: {"model": Problem} for status in statuses},
    )(call)


def _json(status: int, value: Any) -> Response:
    return Response(encode(value), status_code=status, media_type="application/json")
