"""Candidates whose positives the features tell: what rerankers are tested on."""

import numpy as np

from train.rerankers.candidate_rows import CandidateRows
from train.rerankers.training_set import TrainingSet

NAMES = ("retrieval_rank", "useful", "bend", "noise")
ITEMS, WIDTH = 80, 4


def planted(queries: int = 60, width: int = 20, seed: int = 0, signal: float = 3.0) -> TrainingSet:
    """Return labelled rows in a random stage 1 order.

    Args:
        queries: how many.
        width: candidates of each.
        seed: of everything.
        signal: weight of the features in what is taken; 0 leaves chance alone.
    """
    rng = np.random.default_rng(seed)
    count = queries * width
    features = rng.standard_normal((len(NAMES), count)).astype(np.float32)
    features[0] = np.log1p(np.tile(np.arange(width), queries))
    utility = signal * (features[1] - np.abs(features[2])) + rng.gumbel(size=count)
    place = np.argsort(np.argsort(-utility.reshape(queries, width), axis=1), axis=1)
    items = np.argsort(rng.random((queries, ITEMS)), axis=1)[:, :width].astype(np.int32)
    vectors = [rng.standard_normal((n, WIDTH)).astype(np.float32) for n in (queries, ITEMS)]
    query = np.repeat(np.arange(queries), width)
    rows = CandidateRows(features.T, query, items.ravel(), vectors[0])
    return TrainingSet(rows, (place < 3).ravel().astype(np.float32), vectors[1], NAMES)
