"""Rules over a ranking: boosts, at most so many of a kind, diversity, pinned items.

A ranking is all candidates of a request, best first; what is answered is chosen from it here, one
request at a time. What a filter leaves, and which items are excluded, was decided before.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from train.core.ragged import Array
from train.recommender.attributes import check_attributes
from train.recommender.filters import RuleError, kind_of, matching
from train.recommender.recommender import Recommender
from train.recommender.requests import Id, Request
from train.recommender.restrict import restricted


@dataclass(frozen=True)
class Chosen:
    """What is answered, best first.

    Attributes:
        items: int32 `[n]`, n up to k.
        scores: float32 `[n]`, nan for a pinned item that is no candidate.
        pinned: whether each item was pinned, bool `[n]`.
        ignored: pinned ids that are unknown, excluded or hidden.
    """

    items: Array
    scores: Array
    pinned: Array
    ignored: tuple[Id, ...] = ()


def has_rules(request: Request) -> bool:
    """Whether the answer is not just the head of the ranking."""
    return bool(request.boost or request.pin or request.max_per or request.diversity)


def check(recommender: Recommender, request: Request) -> None:
    """Check that a bundle can follow a request's rules and read its attributes of the user.

    The filter is prepared by that.

    Raises:
        RuleError: they are not; it names the place and what is there.
    """
    restricted(recommender, request)
    check_attributes(recommender, request.user)
    for at, boost in enumerate(request.boost):
        matching(recommender.columns, boost["filter"], ("boost", at, "filter"))
    for name in request.max_per:
        kind = kind_of(recommender.columns, name, ("max_per", name))
        if kind not in ("category", "categories", "flag", "number"):
            raise RuleError(("max_per", name), f"expected a column of categories, not {kind}")
    for at, name in enumerate(request.fields):
        kind_of(recommender.columns, name, ("fields", at))
    if request.seen is not None and recommender.seen == "only":
        raise RuleError(
            ("seen",), "this bundle recommends only what a user had before", request.seen
        )
    positions = [pin["position"] for pin in request.pin]
    if len(set(positions)) < len(positions):
        raise RuleError(("pin",), "expected each position once", positions)


def choose(
    recommender: Recommender, request: Request, items: Array, scores: Array, exclude: Array
) -> Chosen:
    """Choose what is answered from a ranking.

    Args:
        recommender: with the columns, and the vectors that items are compared by.
        request: k and the rules.
        items: the ranking, int32 `[C]`, -1 after the last.
        scores: float32 `[C]`.
        exclude: items that the request excludes or that are hidden from its user.
    """
    present = items >= 0
    items, scores = items[present], scores[present]
    pins, ignored = _pins(recommender, request, exclude)
    left = ~np.isin(items, list(pins.values()))
    items, scores = _boosted(recommender, request, items[left], scores[left], items, scores)
    known = dict(zip(items.tolist(), scores.tolist(), strict=True))
    picker = _Picker(recommender, request, items, scores)
    for item in pins.values():
        picker.take(item)
    rest = iter(picker.rest(request.k - len(pins)))
    found: list[tuple[int, bool]] = []
    # Pins behind the end of a short answer come at its end.
    for place in range(1, request.k + 1):
        if place in pins:
            found.append((pins[place], True))
        else:
            found += [(item, False) for item in itertools.islice(rest, 1)]
    chosen = np.array([item for item, _ in found], dtype=np.int32)
    of = np.array([known.get(int(item), np.nan) for item in chosen], dtype=np.float32)
    return Chosen(chosen, of, np.array([pinned for _, pinned in found], dtype=bool), ignored)


def _pins(
    recommender: Recommender, request: Request, exclude: Array
) -> tuple[dict[int, int], tuple[Id, ...]]:
    """Return the pinned item of each position, and ids that cannot be pinned."""
    # One behind the last item asked for is of no answer.
    asked = [pin for pin in request.pin if pin["position"] <= request.k]
    index = recommender.items.index([pin["item_id"] for pin in asked]).tolist()
    pins: dict[int, int] = {}
    ignored = []
    for pin, item in zip(asked, index, strict=True):
        if item < 0 or item in exclude or item in pins.values():
            ignored.append(pin["item_id"])
        else:
            pins[pin["position"]] = item
    return dict(sorted(pins.items())), tuple(ignored)


def _boosted(
    recommender: Recommender,
    request: Request,
    items: Array,
    scores: Array,
    every: Array,
    of_every: Array,
) -> tuple[Array, Array]:
    """Return items and scores in the order that boosts give them.

    The scores of a reranker are log-odds, which a factor is added to by its logarithm; those of
    stage 1 are multiplied.
    """
    for at, boost in enumerate(request.boost):
        mask = matching(recommender.columns, boost["filter"], ("boost", at, "filter"))[items]
        scores = scores.copy()
        if recommender.reranks:
            scores[mask] += np.float32(np.log(boost["factor"]))
        else:
            factor = np.float32(boost["factor"])
            scores[mask] = np.where(scores[mask] >= 0, scores[mask] * factor, scores[mask] / factor)
    order = np.argsort(-scores, kind="stable")
    return items[order], scores[order]


@dataclass
class _Picker:
    """Takes items from a ranking, one by one, as the rules allow.

    Attributes:
        recommender: with the columns and the vectors.
        request: the rules.
        items: int32 `[n]`, best first.
        scores: float32 `[n]`.
    """

    recommender: Recommender
    request: Request
    items: Array
    scores: Array
    counts: Counter[tuple[str, Any]] = field(default_factory=Counter)
    taken: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        columns = self.recommender.columns
        self._kinds = {
            name: [_listed(of) for of in columns.of_items(name, self.items)]
            for name in self.request.max_per
        }

    def take(self, item: int) -> None:
        """Count an item that is answered whatever the rules say."""
        self.taken.append(item)
        for name in self.request.max_per:
            [of] = self.recommender.columns.of_items(name, np.array([item]))
            self.counts.update((name, one) for one in _listed(of))

    def rest(self, count: int) -> list[int]:
        """Return up to `count` further items."""
        return self._diverse(count) if self.request.diversity else self._first(count)

    def _first(self, count: int) -> list[int]:
        found: list[int] = []
        for at, item in enumerate(self.items.tolist()):
            if len(found) >= count:
                break
            if self._fits(at):
                self._count(at)
                found.append(item)
        return found

    def _diverse(self, count: int) -> list[int]:
        """Take by maximal marginal relevance (Carbonell, Goldstein, SIGIR 1998).

        Relevance is the score between 0 and 1 over the ranking, similarity the largest cosine to
        what was taken before.
        """
        share = self.request.diversity
        relevance, units = _unit_range(self.scores), _units(self.recommender, self.items)
        nearest: Array = np.full(len(self.items), -np.inf, dtype=np.float32)
        for item in self.taken:
            nearest = np.maximum(nearest, units @ _units(self.recommender, np.array([item]))[0])
        open_: Array = np.ones(len(self.items), dtype=bool)
        found: list[int] = []
        while len(found) < count and open_.any():
            alike = np.where(np.isfinite(nearest), nearest, 0)
            gain = np.where(open_, (1 - share) * relevance - share * alike, -np.inf)
            at = int(gain.argmax())
            open_[at] = False
            if self._fits(at):
                self._count(at)
                found.append(int(self.items[at]))
                nearest = np.maximum(nearest, units @ units[at])
        return found

    def _fits(self, at: int) -> bool:
        return all(
            self.counts[name, one] < most
            for name, most in self.request.max_per.items()
            for one in self._kinds[name][at]
        )

    def _count(self, at: int) -> None:
        for name in self.request.max_per:
            self.counts.update((name, one) for one in self._kinds[name][at])


def _listed(value: Any) -> Iterable[Any]:
    """Return the different categories of a value; none where it is missing."""
    if value is None:
        return ()
    return dict.fromkeys(value) if isinstance(value, list) else (value,)


def _unit_range(scores: Array) -> Array:
    if not len(scores):
        return scores
    low, high = float(scores.min()), float(scores.max())
    scaled: Array = (scores - low) / (high - low) if high > low else np.ones_like(scores)
    return scaled


def _units(recommender: Recommender, items: Array) -> Array:
    vectors = recommender.directions[items]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Array = vectors / np.maximum(lengths, 1e-12)
    return units


def fields_of(recommender: Recommender, names: Iterable[str], items: Array) -> list[dict[str, Any]]:
    """Return columns of items `[n]` by name, for the answer."""
    columns: Mapping[str, list[Any]] = {
        name: recommender.columns.of_items(name, items) for name in names
    }
    return [{name: of[row] for name, of in columns.items()} for row in range(len(items))]
