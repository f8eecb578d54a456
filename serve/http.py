"""The HTTP API as an ASGI application: keys, validation, JSON, status codes, the access log.

Requests are handled on bare ASGI, which takes a fraction of FastAPI's time; FastAPI documents them
and handles everything else.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.middleware.cors import CORSMiddleware
from pydantic import ValidationError
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from serve import access_log
from serve.access import OPEN, STRANGER, Access, Asker, Refusal
from serve.config import ServeArgs
from serve.openapi import Endpoint, Service, documented, encode, endpoints
from serve.telemetry import Telemetry
from train.recommender.filters import RuleError

logger = logging.getLogger("ray.serve")

# Types of ASGI (https://asgi.readthedocs.io).
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class OverloadedError(RuntimeError):
    """More requests wait than would be answered in time."""


UNAVAILABLE = (BackPressureError, DeploymentUnavailableError, RayActorError, OverloadedError)
# Seconds after which to try again where there was no room.
RETRY_AFTER = (b"retry-after", b"1")
# Of a body full of mistakes, so many are answered, and so many letters of each value.
MAX_ERRORS = 20
MAX_ECHO = 200


@dataclass
class Response:
    """What is answered, and what the access log says of it.

    Attributes:
        status: of HTTP.
        body: as JSON.
        headers: beside those of every answer.
        asker: the name of the key.
        query: that was asked.
    """

    status: int
    body: Any
    headers: tuple[tuple[bytes, bytes], ...] = ()
    asker: str = STRANGER
    query: Any = None


class Application:
    """The ASGI application of a replica.

    Args:
        service: answers requests.
        about: the bundle's manifest and the topology.
        args: the limits of requests, and who may ask.
        telemetry: counts.
        page: the routes of the page.

    Raises:
        ValueError: the file of keys cannot be read.
    """

    def __init__(
        self,
        service: Service,
        about: Mapping[str, Any],
        args: ServeArgs,
        telemetry: Telemetry,
        page: APIRouter,
    ) -> None:
        self._endpoints = endpoints(service, args.max_k)
        self._args = args
        self._telemetry = telemetry
        self._access = Access(
            args.keys, args.strangers, 1 / (args.max_replicas or args.replicas or 1)
        )
        self._rest = documented(self._endpoints, service, about, page)
        # Ray matches every request against these for its metrics: the frequent one comes first.
        self.routes = sorted(
            self._rest.routes, key=lambda route: getattr(route, "path", "") != "/recommend"
        )
        self.router = self._rest.router
        self._handle: Any = self._http
        if args.cors:
            own = ["authorization", "x-api-key", "x-request-id", "content-type"]
            self._handle = CORSMiddleware(
                self._http, list(args.cors), allow_methods=["GET", "POST"], allow_headers=own
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        await (self._handle if scope["type"] == "http" else self._rest)(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in OPEN:
            asker = self._access.ask(scope)
            if isinstance(asker, Refusal):
                refused = Response(asker.status, {"detail": asker.detail}, asker.headers)
                await self._respond(path, send, refused, begun)
                return
            scope["asker"] = asker
        endpoint = self._endpoints.get(path) if scope["method"] == "POST" else None
        if endpoint is None:
            await self._other(path, scope, receive, send, begun)
            return
        response = await self._answer(endpoint, receive, scope["asker"])
        await self._respond(path, send, response, begun)

    async def _other(
        self, path: str, scope: Scope, receive: Receive, send: Send, begun: float
    ) -> None:
        """Have FastAPI answer, and count it; probes are not counted."""
        status = 500

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._rest(scope, receive, noted)
        if path not in OPEN:
            self._note(path, Response(status, {}, asker=scope["asker"].name), begun, {})

    async def _answer(self, endpoint: Endpoint, receive: Receive, asker: Asker) -> Response:
        limit, patience = self._args.max_body, self._args.read_timeout
        try:
            async with asyncio.timeout(patience):
                body = await _read(receive, limit)
        except TimeoutError:
            return _said(408, f"the body did not come within {patience:g} s")
        if body is None:
            return _said(413, f"the body is too large: at most {limit} bytes are accepted")
        try:
            query = endpoint.query.model_validate_json(body)
        except ValidationError as error:
            return _said(422, _detail(error))
        if _asks_for_trace(query) and (lack := asker.lack("admin", "trace")):
            return _said(403, lack)
        try:
            return Response(200, await endpoint.call(query), (), asker.name, query)
        except RuleError as error:
            return _said(422, [_rule(error)])
        except UNAVAILABLE as error:
            return _said(503, f"overloaded or starting, try again: {type(error).__name__}")

    async def _respond(self, path: str, send: Send, response: Response, begun: float) -> None:
        """Send an answer, count it, and log it where that is asked for."""
        told = {}
        if self._args.access_log:
            told = access_log.entry(response.status, response.body, response.query)
        body = encode(response.body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *response.headers,
        ]
        if response.status == 503:
            headers.append(RETRY_AFTER)
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._note(path, response, begun, told)

    def _note(self, path: str, response: Response, begun: float, told: Mapping[str, Any]) -> None:
        """Count an answer, and log it where that is asked for."""
        seconds = time.perf_counter() - begun
        known = path if path in self._endpoints else "other"
        self._telemetry.responded(known, response.status, seconds)
        if self._args.access_log:
            own = {"path": path, "status": response.status, "key": response.asker}
            took = {"milliseconds": round(1000 * seconds, 3)}
            logger.info("answered", extra={**own, **took, **told})


def _asks_for_trace(query: Any) -> bool:
    """Whether a query, or one of a batch, asks for what strangers are not told."""
    return any(getattr(one, "trace", False) for one in getattr(query, "requests", [query]))


def _said(status: int, detail: Any) -> Response:
    return Response(status, {"detail": detail})


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
