"""The page at `/`, and what it asks of a replica beside what every client does."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from train.recommender.answers import named_items, newest_of_history
from train.recommender.recommender import Recommender
from train.recommender.requests import Id
from train.recommender.requests import Request as Asked

FOLDER = Path(__file__).parent
KINDS = {"page.css": "text/css", "page.js": "text/javascript"}
FOUND = 10
# Pages of others neither show this one in a frame nor have it load anything of theirs.
GUARDS = {
    "content-security-policy": "default-src 'self'; img-src data:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def routes(recommender: Recommender, live: Callable[[], Mapping[str, Any]]) -> APIRouter:
    """Return the routes of the page.

    The page itself is the same for all; what it shows needs the scope `admin`.

    Args:
        recommender: whose items and users are looked up.
        live: returns what the replica has counted.
    """
    router = APIRouter(include_in_schema=False)
    text = (FOLDER / "index.html").read_text(encoding="utf-8")

    @router.get("/")
    async def page(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        return HTMLResponse(text.replace("{{root}}", root), headers=GUARDS)

    @router.get("/page/{name}.{kind}")
    async def file(name: str, kind: str) -> Response:
        found = f"{name}.{kind}"
        if found not in KINDS:
            raise HTTPException(404)
        return FileResponse(FOLDER / found, media_type=KINDS[found], headers=GUARDS)

    @router.get("/page/items", dependencies=[Depends(_admin)])
    async def items(text: str) -> Any:
        return {"items": await asyncio.to_thread(search, recommender, text)}

    @router.get("/page/user", dependencies=[Depends(_admin)])
    async def user(user_id: str) -> Any:
        asked = Asked(user_id=as_id(user_id, recommender.users.is_integer))
        return {"history": newest_of_history(recommender, asked, 50)}

    @router.get("/page/live", dependencies=[Depends(_admin)])
    async def told() -> Any:
        own = {"bundle": recommender.version, "integer_ids": recommender.users.is_integer}
        return {**own, **live()}

    return router


def _admin(request: Request) -> None:
    if lack := request.scope["asker"].lack("admin"):
        raise HTTPException(403, lack)


def as_id(text: str, integer: bool) -> Id:
    """Return an id that was typed, in the type that the bundle's have."""
    try:
        return int(text) if integer else text
    except ValueError:
        return text


def search(recommender: Recommender, text: str) -> list[dict[str, Any]]:
    """Return items whose id is a text, or whose title has it, the most popular first."""
    places = [recommender.items.index([as_id(text, recommender.items.is_integer)])[0]]
    titles = recommender.titles
    if titles is not None:
        has = pc.match_substring(titles, text, ignore_case=True)
        has = pc.fill_null(has, False)
        order = pa.array(recommender.popular)
        places += order.filter(has.take(order)).slice(0, FOUND).to_pylist()
    found = list(dict.fromkeys(int(place) for place in places if place >= 0))[:FOUND]
    return named_items(recommender, np.array(found, dtype=np.int32))
