"""Features of candidates by the sources: what each thinks of those that any of them proposed."""

import numpy as np

from train.core.ragged import Array
from train.index.candidates import Candidates
from train.rerankers.scaling import standardized_by_request

# Of each source: its score, standardized over the request's candidates; the log of the candidate's
# rank by it; whether it proposed the candidate.
SOURCE = ("score", "rank", "proposed")


def source_features(candidates: Candidates, out: Array) -> None:
    """Write the columns of `SOURCE` of each source, where there are several."""
    if candidates.by_source is None or candidates.proposed is None:
        return
    present = candidates.items >= 0
    for number, scores in enumerate(candidates.by_source):
        score, rank, proposed = out[3 * number : 3 * number + 3]
        score[:] = standardized_by_request(scores, present)
        order = np.argsort(np.where(present, -scores, np.inf), axis=1, kind="stable")
        ranks = np.log1p(np.arange(scores.shape[1], dtype=np.float32))
        np.put_along_axis(rank, order, ranks[None], axis=1)
        proposed[:] = (candidates.proposed >> np.uint16(number)) & np.uint16(1)
