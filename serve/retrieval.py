"""Stage 1 as the HTTP ingress, with dynamic micro-batching of requests."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve.config import ServeArgs
from serve.http import UNAVAILABLE, Application, OverloadedError
from serve.loopback import bind_to_node
from serve.page.routes import routes
from serve.ranking import Ranked, pack
from serve.scenarios import checked
from serve.schemas import as_request
from serve.telemetry import Telemetry
from train.bundle.bundle import open_bundle
from train.recommender.answers import answers, rank_retrieved, ranked_count
from train.recommender.filters import RuleError
from train.recommender.given_items import rank_items, similar_items
from train.recommender.requests import Id, Request, Retrieved, in_indices
from train.recommender.restrict import restricted
from train.recommender.retrieval import retrieve
from train.recommender.rules import check, has_rules
from train.recommender.trace import trace

# A request with a longer history, or for more items, takes the time of many: it is answered in a
# thread, and not in a batch with small ones.
LARGE = 200
LARGE_BATCH = 8
# Instead of a ranking: stage 2 did not answer, and the order of stage 1 stands.
UNRANKED = object()

Call = Callable[..., Awaitable[Any]]
"""Runs a function with its arguments: in place, or in a thread."""


@dataclass
class Waiting:
    """A request in a batch.

    Attributes:
        request: it.
        until: when its answer may be a lesser one, of `time.monotonic`.
        since: when it came, likewise.
        times: seconds that it waited, and that each stage took for its batch.
    """

    request: Request
    until: float
    since: float = field(default_factory=time.monotonic)
    times: dict[str, float] = field(default_factory=dict)


class OtherBundleError(RuntimeError):
    """The stages have different bundles, as they do while an application is updated."""


class RetrievalReplica:
    """Answers HTTP: retrieves, has the candidates ranked, and names the items.

    Args:
        args: the application's settings.
        ranking: the second stage's deployment; None runs the second stage in here.
        scenarios: tables of rules by name.

    Raises:
        ValueError: the bundle cannot be opened, or cannot follow a scenario.
    """

    def __init__(
        self,
        args: ServeArgs,
        ranking: DeploymentHandle[Any] | None = None,
        scenarios: Mapping[str, Any] | None = None,
    ) -> None:
        bind_to_node()
        self._args = args
        bundle = open_bundle(args.bundle)
        count = bundle.recommender.candidates if args.candidates is None else args.candidates
        self._recommender = replace(bundle.recommender, candidates=count)
        self._about = {**bundle.manifest, "topology": args.topology}
        self._telemetry = Telemetry(self._recommender, bundle.manifest)
        self._ranking = ranking
        self._scenarios = checked(self._recommender, scenarios or {})
        # Requests that wait here, and seconds that one of the last ones took.
        self._waiting, self._seconds = 0, 0.0
        # What nothing holds, asyncio may drop before it has ended.
        self._checks: set[asyncio.Task[None]] = set()
        self._warm_up()
        threading.Thread(target=self._telemetry.tell_gauges, daemon=True).start()
        # One batch is computed while another waits for its ranking: a single one halves the rate.
        self._small = serve.batch(
            max_batch_size=args.max_batch, batch_wait_timeout_s=0.0, max_concurrent_batches=2
        )(self._recommend)
        self._large = serve.batch(
            max_batch_size=min(LARGE_BATCH, args.max_batch), batch_wait_timeout_s=0.0
        )(self._recommend_large)

    def _warm_up(self) -> None:
        """Load the tower and fill the caches now, not while the first request waits."""
        known = Request(history=[self._recommender.items.ids[0].as_py()], k=1)
        retrieved = retrieve(self._recommender, [known])
        if self._ranking is None:
            rank_retrieved(self._recommender, [known], retrieved)

    def __serve_build_asgi_app__(self) -> Application:
        """Return the ASGI application; Ray calls this once the replica is constructed."""
        page = routes(self._recommender, self._telemetry.live)
        return Application(self, self._about, self._args, self._telemetry, page)

    async def recommend(self, query: Any) -> dict[str, Any]:
        """Answer one query, batched with others that wait.

        Raises:
            RuleError: it has rules that the bundle cannot follow.
        """
        return await self._traced(self._request(query), query)

    async def recommend_batch(self, query: Any) -> dict[str, Any]:
        """Answer a list of queries; all of them are checked first."""
        requests = []
        for at, one in enumerate(query.requests):
            try:
                requests.append(self._request(one))
            except RuleError as error:
                place = ("requests", at, *error.place)
                raise RuleError(place, error.args[0], error.given) from None
        asked = zip(requests, query.requests, strict=True)
        found = await asyncio.gather(*(self._traced(own, one) for own, one in asked))
        return {"answers": list(found)}

    async def rank(self, query: Any) -> dict[str, Any]:
        """Return given items in the order in which they would be recommended."""
        history = query.history[-self._args.max_history :]
        request = Request(user_id=query.user_id, history=history, user=query.user)
        check(self._recommender, request)
        return await asyncio.to_thread(rank_items, self._recommender, request, query.items)

    async def similar(self, query: Any) -> dict[str, Any]:
        """Return items like given ones."""
        request = Request(
            k=query.k,
            exclude=query.exclude,
            filter=query.filter,
            allow=query.allow,
            fields=query.fields,
        )
        check(self._recommender, request)
        seeds = query.items, query.not_items
        return await asyncio.to_thread(similar_items, self._recommender, *seeds, request)

    async def ready(self) -> None:
        """Raise where the second stage does not answer, or has another bundle."""
        if self._ranking is None:
            return
        ours, theirs = self._recommender.version, await self._ranking.version.remote()
        if ours != theirs:
            raise OtherBundleError(f"stage 1 has bundle {ours}, stage 2 has {theirs}")

    def _request(self, query: Any) -> Request:
        """Return a query as a request whose rules the bundle can follow.

        Raises:
            RuleError: it cannot, or there is no such scenario.
        """
        try:
            request = as_request(query, self._scenarios)
        except KeyError:
            available = ", ".join(self._scenarios) or "none"
            raise RuleError(
                ("scenario",), f"unknown scenario; available: {available}", query.scenario
            ) from None
        check(self._recommender, request)
        return request

    async def _traced(self, request: Request, query: Any) -> dict[str, Any]:
        """Answer a request, with its trace where the query asks for one."""
        answer = await self._answer(request, query.timeout_ms)
        if query.trace:
            return answer | {"trace": await asyncio.to_thread(trace, self._recommender, request)}
        return answer

    async def _answer(self, request: Request, timeout_ms: int | None) -> dict[str, Any]:
        """Answer a request by the newest of its history, in a batch with others that wait.

        Raises:
            OverloadedError: a batch waits already, and this one would wait for too long.
        """
        ahead = self._waiting * self._seconds
        if self._waiting >= self._args.max_batch and 1000 * ahead > self._args.max_wait_ms:
            raise OverloadedError(f"{self._waiting} requests wait, some {ahead:.2f} s")
        most = self._args.max_history
        cut = len(request.history) > most
        if cut:
            request = replace(request, history=request.history[-most:])
        large = len(request.history) > LARGE or request.k > LARGE or has_rules(request)
        patience = (timeout_ms or self._args.timeout_ms) / 1000
        self._waiting += 1
        try:
            asked = Waiting(request, time.monotonic() + patience)
            answer: dict[str, Any] = await (self._large if large else self._small)(asked)
        finally:
            self._waiting -= 1
        self._count(request, answer)
        if cut:
            answer["history_used"] = most
        if self._args.access_log:
            answer["times"] = {step: round(1000 * s, 3) for step, s in asked.times.items()}
        return answer

    def _count(self, request: Request, answer: Mapping[str, Any]) -> None:
        self._telemetry.answered(answer)
        allowed = restricted(self._recommender, request)
        if allowed is not self._recommender:
            self._telemetry.filtered(len(allowed.popular))

    async def _recommend(self, waiting: list[Waiting]) -> list[dict[str, Any]]:
        begun = time.monotonic()
        found = await self._answered(waiting, _here)
        took = (time.monotonic() - begun) / len(waiting)
        # The last batches count the most.
        self._seconds = 0.8 * self._seconds + 0.2 * took
        return found

    async def _recommend_large(self, waiting: list[Waiting]) -> list[dict[str, Any]]:
        """Answer in threads, so that small requests are answered meanwhile."""
        return await self._answered(waiting, asyncio.to_thread)

    async def _answered(self, waiting: list[Waiting], call: Call) -> list[dict[str, Any]]:
        """Answer a batch; `call` runs each of its steps."""
        begun = time.monotonic()
        requests = [self._lesser(one) if one.until < begun else one.request for one in waiting]
        retrieved = await call(retrieve, self._recommender, requests)
        found_at = time.monotonic()
        ranked = await self._ranked(waiting, requests, retrieved)
        if ranked is None:
            ranked = await call(rank_retrieved, self._recommender, requests, retrieved)
        unranked = ranked is UNRANKED
        if unranked:
            candidates = retrieved.candidates.first(ranked_count(requests, retrieved))
            ranked = candidates.items, candidates.scores
        ranked_at = time.monotonic()
        found = await call(answers, self._recommender, requests, retrieved, *ranked)
        ended = time.monotonic()
        times = {"retrieve": found_at - begun, "rank": ranked_at - found_at}
        times["answer"] = ended - ranked_at
        for one in waiting:
            one.times = {"wait": begun - one.since, **times}
        self._telemetry.batch(times, retrieved.candidates.items, ranked[0])
        if self._telemetry.is_to_check():
            check = asyncio.create_task(self._telemetry.check(retrieved.vectors[:1]))
            self._checks.add(check)
            check.add_done_callback(self._checks.discard)
        return _told(waiting, found, begun, unranked)

    async def _ranked(
        self, waiting: list[Waiting], requests: list[Request], retrieved: Retrieved
    ) -> Any:
        """Return what stage 2's deployment makes of candidates.

        None without one, and where it has another bundle, as it may while an application is
        updated: this one has both stages. `UNRANKED` where it does not answer in time, or is dead.
        """
        if self._ranking is None:
            return None
        patience = max(0.001, max(one.until for one in waiting) - time.monotonic())
        try:
            async with asyncio.timeout(patience):
                message = pack(retrieved, ranked_count(requests, retrieved))
                version = self._recommender.version
                ranked: Ranked | None = await self._ranking.rank.remote(version, message)
                return ranked
        except (TimeoutError, *UNAVAILABLE):
            return UNRANKED

    def _lesser(self, one: Waiting) -> Request:
        """Return the request as one of nobody, which is answered by what is popular."""
        queries, _, _ = in_indices(self._recommender, [one.request])
        # What its user has seen, or hides, is no answer to it either.
        exclude = self._recommender.items.external(queries.exclude.values)
        nobody: tuple[Id, ...] = ()
        return replace(one.request, user_id=None, history=nobody, exclude=exclude, user={})


async def _here(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function as `asyncio.to_thread` does, without a thread."""
    return function(*args)


def _told(
    waiting: list[Waiting], answers: list[dict[str, Any]], begun: float, unranked: bool
) -> list[dict[str, Any]]:
    """Return answers that say where they are lesser ones."""
    told = []
    for one, answer in zip(waiting, answers, strict=True):
        if one.until < begun:
            answer = answer | {"degraded": "late"}
        elif unranked and answer["source"] != "popular":
            answer = answer | {"degraded": "ranker"}
        told.append(answer)
    return told
