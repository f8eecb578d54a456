"""What a replica counts, as metrics for Prometheus.

A request adds to plain numbers; Ray is told of them a second later, all at once, because telling
it of each would take a tenth of a request's time. Names, and what to ask of them: docs/metrics.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from ray import serve
from ray.serve.metrics import Counter as RayCounter
from ray.serve.metrics import Gauge, Histogram

from cluster.memory import give_back
from train.core.ragged import Array
from train.recommender.answers import recommend
from train.recommender.recommender import Recommender
from train.recommender.requests import Request

# Seconds between what happens and when Ray is told of it.
PERIOD = 1.0
SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0]
# Of an answer, items that count for the coverage of the catalogue.
FIRST = 10
# Users whose first scores are what a bundle expects of its answers.
EXPECTED = 200
BATCH = 8
# Of the moving average of first scores: answers that it is over.
AVERAGED = 1000
# Seconds between two requests that are searched for exactly, too, where the index is a graph.
CHECKED = 5.0
CHECKED_K = 100

COUNTED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "raytower_responses": ("Responses.", ("path", "status")),
    "raytower_answers": ("Answered requests.", ("source", "degraded")),
    "raytower_batches": ("Batches in which requests were answered.", ()),
    "raytower_items": ("Items that were answered.", ()),
    "raytower_short_answers": ("Answers with fewer items than were asked for.", ()),
    "raytower_unknown_ids": ("Ids of requests that say nothing to the bundle.", ()),
    "raytower_candidates": ("Candidates of stage 1.", ()),
    "raytower_filtered": ("Requests with a filter or a list of what is allowed.", ()),
    "raytower_survivors": ("Items that filters and lists let pass, summed over requests.", ()),
    "raytower_exact_neighbours": ("Items that an exact search finds, of sampled requests.", ()),
    "raytower_found_neighbours": ("Of these, those that the index found.", ()),
}
"""Counters: what they count, and their labels. Prometheus sees them with `_total` at the end."""

GAUGES: Mapping[str, str] = {
    "raytower_bundle": "1, of the bundle that answers.",
    "raytower_bundle_created": "When the bundle was written, Unix time.",
    "raytower_data_as_of": "The newest interaction of the bundle, Unix time.",
    "raytower_coverage": "Share of the catalogue that was among first items since the start.",
    "raytower_first_score": "Mean score of the first items of the last personal answers.",
    "raytower_first_score_expected": "What that is for users of the bundle.",
    "raytower_first_score_deviation": "The standard deviation of that.",
}
"""Gauges: what they are."""


class Telemetry:
    """The numbers of a replica; all but `tell_gauges` is called in its event loop.

    Args:
        recommender: that answers.
        manifest: of its bundle.
    """

    def __init__(self, recommender: Recommender, manifest: Mapping[str, Any]) -> None:
        self._recommender = recommender
        self._counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
        counter: Any = RayCounter  # whose annotation has a single label
        self._counters = {
            name: counter(name, description=words, tag_keys=labels)
            for name, (words, labels) in COUNTED.items()
        }
        self._request = Histogram(
            "raytower_request_seconds", "From a request's head to its answer.", SECONDS, ("path",)
        )
        self._stage = Histogram(
            "raytower_stage_seconds", "Of a batch, by stage.", SECONDS, ("stage",)
        )
        self._covered = np.zeros(len(recommender.items), dtype=bool)
        self._first: list[float] = []
        self._known = _of_bundle(manifest)
        self._told, self._looked = False, 0.0
        self._totals: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self._recent: deque[float] = deque(maxlen=AVERAGED)

    def responded(self, path: str, status: int, seconds: float) -> None:
        """Count a response."""
        self._count("raytower_responses", 1, path, str(status))
        self._request.observe(seconds, {"path": path})
        if status == 200 and path != "other":
            self._recent.append(seconds)

    def answered(self, answer: Mapping[str, Any]) -> None:
        """Count what an answer is made of."""
        self._count("raytower_answers", 1, answer["source"], answer.get("degraded", "no"))
        items = answer["items"]
        self._count("raytower_items", len(items))
        if "short" in answer:
            self._count("raytower_short_answers", 1)
        if "ignored" in answer:
            self._count("raytower_unknown_ids", len(answer["ignored"]))
        if items and answer["source"] == "personal" and items[0]["score"] is not None:
            self._first.append(items[0]["score"])

    def batch(self, times: Mapping[str, float], candidates: Array, ranked: Array) -> None:
        """Count a batch.

        Args:
            times: seconds of each stage.
            candidates: of stage 1, int32 `[B, C]`, -1 where there are no more.
            ranked: the first items of each answer, int32 `[B, k]`, likewise.
        """
        self._count("raytower_batches", 1)
        for stage, seconds in times.items():
            self._stage.observe(seconds, {"stage": stage})
        self._count("raytower_candidates", int((candidates >= 0).sum()))
        first = ranked[:, :FIRST]
        self._covered[first[first >= 0]] = True

    def filtered(self, survivors: int) -> None:
        """Count a request that a filter or a list restricts."""
        self._count("raytower_filtered", 1)
        self._count("raytower_survivors", survivors)

    def is_to_check(self) -> bool:
        """Whether a request is to be searched for exactly, too; that is so for one in a while."""
        now = time.monotonic()
        graph = self._recommender.index.report["used"] == "hnsw"
        if not graph or now - self._looked < CHECKED:
            return False
        self._looked = now
        return True

    async def check(self, vectors: Array) -> None:
        """Count how many of the exact neighbours of vectors `[B, d]` the index finds."""
        found, exact = await asyncio.to_thread(neighbours, self._recommender, vectors)
        self._count("raytower_exact_neighbours", exact)
        self._count("raytower_found_neighbours", found)

    def live(self) -> dict[str, Any]:
        """Return what this replica has counted since it started, for people."""
        totals = self._totals + self._counts
        sources: Counter[str] = Counter()
        refused = 0
        for (name, labels), number in totals.items():
            if name == "raytower_answers":
                sources[labels[0]] += number
            if name == "raytower_responses" and int(labels[1]) >= 400:
                refused += number
        exact = totals["raytower_exact_neighbours", ()]
        quantiles = np.quantile(self._recent, (0.5, 0.99)) if self._recent else None
        return {
            "replica": serve.get_replica_context().replica_id.unique_id,
            "sources": dict(sources),
            "refused": refused,
            "milliseconds": None if quantiles is None else (1000 * quantiles).round(1).tolist(),
            "recall": totals["raytower_found_neighbours", ()] / exact if exact else None,
            "coverage": self._share(),
        }

    def _share(self) -> float:
        return float(self._covered.sum() / max(1, self._recommender.catalogue.sum()))

    def _count(self, name: str, number: int, *labels: str) -> None:
        self._counts[name, labels] += number
        if not self._told:
            self._told = True
            asyncio.get_running_loop().call_later(PERIOD, self._tell)

    def _tell(self) -> None:
        """Tell Ray what has come together."""
        self._told = False
        counts, self._counts = self._counts, Counter()
        for (name, labels), number in counts.items():
            if number:
                tags = dict(zip(COUNTED[name][1], labels, strict=True))
                self._counters[name].inc(number, tags)
        self._totals.update(counts)
        if self._first:
            mean, weight = float(np.mean(self._first)), min(1.0, len(self._first) / AVERAGED)
            before = self._known.get("raytower_first_score", mean)
            self._known["raytower_first_score"] = before + weight * (mean - before)
            self._first = []

    def tell_gauges(self) -> None:
        """Tell Ray what is as it is, for ever: it forgets a gauge that is not told again."""
        self._known |= expected(self._recommender)
        # What opening the bundle took for a moment would stay with each replica.
        give_back()
        version = {"version": self._recommender.version}
        gauge: Any = Gauge  # whose annotation has a single label
        gauges = {
            name: gauge(name, words, ("version",) if name == "raytower_bundle" else ())
            for name, words in GAUGES.items()
        }
        while True:
            for name, value in {**self._known, "raytower_coverage": self._share()}.items():
                gauges[name].set(value, version if name == "raytower_bundle" else None)
            time.sleep(PERIOD)


def _of_bundle(manifest: Mapping[str, Any]) -> dict[str, float]:
    created = datetime.fromisoformat(manifest["created"]).timestamp()
    found = {"raytower_bundle": 1.0, "raytower_bundle_created": created}
    as_of = manifest.get("data", {}).get("as_of")
    return found if as_of is None else found | {"raytower_data_as_of": float(as_of)}


def expected(recommender: Recommender) -> dict[str, float]:
    """Return the mean and the deviation of the first scores that a bundle's own users get."""
    count = min(EXPECTED, len(recommender.users))
    users = np.random.default_rng(0).choice(len(recommender.users), count, replace=False)
    ids: Sequence[Any] = recommender.users.external(users.astype(np.int32))
    requests = [Request(user_id=one, k=1) for one in ids]
    # What a large batch has taken of memory, a process keeps.
    batches = (requests[at : at + BATCH] for at in range(0, count, BATCH))
    scores = [
        answer["items"][0]["score"]
        for batch in batches
        for answer in recommend(recommender, batch)
        if answer["source"] == "personal" and answer["items"]
    ]
    if not scores:
        return {}
    return {
        "raytower_first_score_expected": float(np.mean(scores)),
        "raytower_first_score_deviation": float(np.std(scores)),
    }


def neighbours(recommender: Recommender, vectors: Array) -> tuple[int, int]:
    """Return how many of the exact neighbours are found, and how many there are."""
    index: Any = recommender.index
    k = min(CHECKED_K, int(recommender.catalogue.sum()))
    found, exact = index.search(vectors, k)[0], index.exact().search(vectors, k)[0]
    hits = sum(
        len(np.intersect1d(ours[ours >= 0], theirs[theirs >= 0]))
        for ours, theirs in zip(found, exact, strict=True)
    )
    return int(hits), int((exact >= 0).sum())
