"""Features of candidates that the user may have had before."""

import numpy as np

from train.core.ragged import Array
from train.data.repeats import Repeats
from train.index.candidates import Queries

# Log of the count; 1 / (1 + days) since the last; log of these days in units of the user's mean
# interval between visits; share of the history; share of the item's users who came back to it.
REPEATS = ("repeat_count", "repeat_recency", "repeat_intervals", "repeat_share", "repeat_rate")


def repeat_features(repeats: Repeats | None, queries: Queries, items: Array, out: Array) -> int:
    """Write the columns of `REPEATS`, if there are any, and return how many.

    Args:
        repeats: what users had before the moment of the snapshot; None leaves them out.
        queries: the requests.
        items: candidates, int32 `[B, C]`.
        out: of the features, float32 `[>= 5, B, C]`.
    """
    if repeats is None:
        return 0
    counts, days = repeats.counts(queries.user, queries.history, items)
    had = counts > 0
    np.log1p(counts, out=out[0], casting="same_kind")
    out[1] = np.where(had, 1 / (1 + days), 0)
    out[2] = np.where(had, np.log1p(days / repeats.interval[queries.user][:, None]), 0)
    out[3] = counts / np.maximum(queries.history.lengths, 1)[:, None]
    out[4] = repeats.rate.take(items, mode="wrap")
    return len(REPEATS)
