"""A recommender restricted to some items: what a filter lets pass, and what a request allows.

Every source proposes of these alone, so that a request gets as many as there are. Which search
finds them is a rule of sizes: up to 50,000 items, all of them are looked at; of more, the graph is
searched for more than is asked for. Neither loses recall to the filter.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np

from train.core.ragged import Array
from train.recommender.filters import matching
from train.recommender.recommender import Recommender
from train.recommender.requests import Id, Request

# Restrictions that are kept of a recommender, those that were used last.
KEPT = 32

_LOCK = Lock()


def key_of(request: Request) -> str:
    """Return what tells the restrictions of requests apart; "" for none."""
    if request.filter is None and request.allow is None:
        return ""
    allowed = None if request.allow is None else sorted(request.allow, key=repr)
    return json.dumps([request.filter, allowed], sort_keys=True)


def restricted(recommender: Recommender, request: Request) -> Recommender:
    """Return the recommender for what a request allows; the same one where that is everything.

    Raises:
        RuleError: the filter is none that the bundle can follow.
    """
    key = key_of(request)
    if not key:
        return recommender
    kept: OrderedDict[str, Recommender] = recommender.__dict__.setdefault(
        "_restricted", OrderedDict()
    )
    with _LOCK:
        if key in kept:
            kept.move_to_end(key)
            return kept[key]
    found = within(recommender, allowed(recommender, request.filter, request.allow))
    with _LOCK:
        kept[key] = found
        while len(kept) > KEPT:
            kept.popitem(last=False)
    return found


def allowed(
    recommender: Recommender, filter: Mapping[str, Any] | None, allow: Sequence[Id] | None
) -> Array:
    """Return the items of the catalogue that pass a filter and are among those allowed, `[I]`."""
    mask = recommender.catalogue.copy()
    if filter is not None:
        mask &= matching(recommender.columns, filter)
    if allow is not None:
        listed = np.zeros_like(mask)
        index = recommender.items.index(allow)
        listed[index[index >= 0]] = True
        mask &= listed
    return mask


def within(recommender: Recommender, mask: Array) -> Recommender:
    """Return the recommender that proposes some items alone, bool `[I]`."""
    made = replace(
        recommender,
        catalogue=mask,
        index=recommender.index.within(np.flatnonzero(mask).astype(np.int32)),
        sources={name: of.within(mask) for name, of in recommender.sources.items()},
    )
    # What follows from the whole is not computed anew.
    order = recommender.popular
    made.__dict__["popular"] = order[mask[order]]
    made.__dict__["fallback"] = recommender.fallback.within(mask)
    return made


def groups(requests: Iterable[Request]) -> dict[str, Array]:
    """Return the rows of the requests of each restriction, ascending."""
    rows: dict[str, list[int]] = {}
    for row, request in enumerate(requests):
        rows.setdefault(key_of(request), []).append(row)
    return {key: np.array(of) for key, of in rows.items()}
