"""The reference for `serve_http.py`: the same two stages in a plain FastAPI program, one a core.

`python -m tests.benchmarks.fastapi_server BUNDLE --port 8100 [--batching]`. Plain is what most
would write: a route with a model, the stages called in it. `--batching` gathers waiting requests
into batches as serving does, and answers on bare handlers.
"""

import argparse
import asyncio
import os
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, Response
from fastapi import Request as HttpRequest
from pydantic import BaseModel

from cluster.cpus import available_cpus

MAX_BATCH = 64


class Query(BaseModel):
    user_id: int | str | None = None
    history: list[int | str] = []
    exclude: list[int | str] = []
    k: int = 10


def create() -> FastAPI:
    """Return the program; its bundle and its kind come from the environment, worker by worker."""
    from train.bundle.bundle import open_bundle
    from train.recommender.answers import recommend as recommend_with
    from train.recommender.requests import Request

    recommender = open_bundle(os.environ["REFERENCE_BUNDLE"]).recommender

    def recommend(requests: list[Request]) -> list[dict[str, Any]]:
        return recommend_with(recommender, requests)

    app = FastAPI()

    async def plain(query: Query) -> Any:
        return recommend([Request(**query.__dict__)])[0]

    waiting: list[tuple[Request, asyncio.Future[dict[str, Any]]]] = []

    def answer_waiting() -> None:
        batch, waiting[:] = waiting[:MAX_BATCH], waiting[MAX_BATCH:]
        if waiting:
            asyncio.get_running_loop().call_soon(answer_waiting)
        for (_, future), answer in zip(
            batch, recommend([request for request, _ in batch]), strict=True
        ):
            if not future.done():
                future.set_result(answer)

    async def batched(request: HttpRequest) -> Response:
        query = Query.model_validate_json(await request.body())
        loop = asyncio.get_running_loop()
        future: asyncio.Future[dict[str, Any]] = loop.create_future()
        waiting.append((Request(**query.__dict__), future))
        if len(waiting) == 1:
            # After what has arrived by now: the requests of one turn of the loop share a batch.
            loop.call_soon(answer_waiting)
        return Response(orjson.dumps(await future), media_type="application/json")

    if os.environ["REFERENCE_BATCHING"] == "1":
        app.add_route("/recommend", batched, methods=["POST"])
    else:
        app.post("/recommend")(plain)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--workers", type=int, default=available_cpus())
    parser.add_argument("--batching", action="store_true")
    arguments = parser.parse_args()
    os.environ["REFERENCE_BUNDLE"] = arguments.bundle
    os.environ["REFERENCE_BATCHING"] = str(int(arguments.batching))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    uvicorn.run(
        "tests.benchmarks.fastapi_server:create",
        factory=True,
        port=arguments.port,
        workers=arguments.workers,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
