"""The HTTP API as an ASGI application: validation, JSON, status codes, OpenAPI at /docs.

`POST /recommend` is handled on bare ASGI, which takes a fraction of FastAPI's time; FastAPI
documents it and handles everything else.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson
from fastapi import FastAPI, Response
from fastapi_offline import FastAPIOffline
from pydantic import Field, ValidationError, create_model
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from serve.schemas import Answer, Problem, Query
from train.recommender.requests import Request

# Types of ASGI (https://asgi.readthedocs.io).
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

Recommend = Callable[[Request], Awaitable[Mapping[str, Any]]]
Ready = Callable[[], Awaitable[None]]

UNAVAILABLE = (BackPressureError, DeploymentUnavailableError, RayActorError)
# Of a body full of mistakes, so many are answered, and so many letters of each value.
MAX_ERRORS = 20
MAX_ECHO = 200


class Application:
    """The ASGI application of a replica.

    Args:
        recommend: answers a request.
        ready: raises where a stage cannot be reached.
        about: the answer of `GET /bundle`; its `version` is the bundle's.
        max_k: maximum `k` of a request.
        max_body: maximum size of a request's body, bytes.
    """

    def __init__(
        self,
        recommend: Recommend,
        ready: Ready,
        about: Mapping[str, Any],
        max_k: int,
        max_body: int,
    ) -> None:
        self._recommend = recommend
        self._query = create_model("Query", __base__=Query, k=(int, Field(10, ge=1, le=max_k)))
        self._max_body = max_body
        self._rest = _documented(self._query, recommend, ready, about)
        # Ray matches every request against these for its metrics: the frequent one comes first.
        self.routes = sorted(self._rest.routes, key=lambda route: route.path != "/recommend")  # type: ignore[attr-defined]
        self.router = self._rest.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if path == "/recommend":
                status, body = await self._answer(receive)
                await _respond(send, status, body)
                return
        await self._rest(scope, receive, send)

    async def _answer(self, receive: Receive) -> tuple[int, Any]:
        body = await _read(receive, self._max_body)
        if body is None:
            limit = self._max_body
            return 413, {"detail": f"the body is too large: at most {limit} bytes are accepted"}
        try:
            query = self._query.model_validate_json(body)
        except ValidationError as error:
            return 422, {"detail": _detail(error)}
        try:
            return 200, await self._recommend(Request(**query.__dict__))
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


def _documented(
    query: type[Query], recommend: Recommend, ready: Ready, about: Mapping[str, Any]
) -> FastAPI:
    # /docs has to be read where there is no internet, too.
    app = FastAPIOffline(
        title="Raytower", version=str(about["version"]), summary="Recommendations."
    )

    async def recommend_items(body: Query) -> Any:
        """Recommend items to a known user, to a new one with a history, or to anybody."""
        return await recommend(Request(**body.__dict__))

    # The model with this application's largest k, which is only known now.
    recommend_items.__annotations__["body"] = query
    app.post(
        "/recommend",
        response_model=Answer,
        response_model_exclude_unset=True,
        responses={413: {"model": Problem}, 503: {"model": Problem}},
    )(recommend_items)

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


def _json(status: int, value: Any) -> Response:
    return Response(encode(value), status_code=status, media_type="application/json")
