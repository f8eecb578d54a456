"""Scaling of candidate features: over a training set's rows, and within a request."""

import numpy as np

from train.core.ragged import Array

# A feature that deviates less is constant but for rounding, and dividing would blow that up.
SMALLEST = 1e-6
# Beyond 5 deviations a value says little more, and a network would extrapolate.
CLIP = 5.0
# Sums of some hundred float32 products, rounded at random, are off by 10 eps of their size.
NOISE = 10 * float(np.finfo(np.float32).eps)
TINY = 1e-12


def inverse_deviation(features: Array) -> Array:
    """Return 1 over the standard deviation of each column, 0 where constant, float64 `[F]`.

    Args:
        features: `[R, F]`.
    """
    # In float64: the mean of a float32 column that never changes is off by more than the limit.
    deviation = features.std(axis=0, dtype=np.float64)
    return np.where(deviation > SMALLEST, 1 / np.maximum(deviation, SMALLEST), 0)


def standardized(features: Array, mean: Array, scale: Array) -> Array:
    """Return features with mean 0 and deviation 1, clipped at 5 deviations, float32 `[R, F]`.

    Args:
        features: float32 `[R, F]`.
        mean: of the training set, float32 `[F]`.
        scale: its `inverse_deviation`, float32 `[F]`.
    """
    scaled = (features - mean) * scale
    return np.clip(scaled, -CLIP, CLIP, out=scaled)


def standardized_by_request(scores: Array, present: Array) -> Array:
    """Return z-scores of each request's candidates, float32 `[B, C]`, 0 where not present.

    The size of linear scores depends on how much a user interacted with and on how much data the
    model was fitted to, which differs between training a reranker and serving it.

    Args:
        scores: `[B, C]`.
        present: False for padding, bool `[B, C]`.
    """
    counted = np.maximum(present.sum(axis=1, keepdims=True), 1)
    scores = scores.astype(np.float64)
    mean = np.where(present, scores, 0).sum(axis=1, keepdims=True) / counted
    centered = np.where(present, scores - mean, 0)
    deviation = np.sqrt((centered**2).sum(axis=1, keepdims=True) / counted)
    largest = np.abs(np.where(present, scores, 0)).max(axis=1, keepdims=True, initial=0)
    # Scores that are equal on paper differ by the rounding of their sums, which is no deviation.
    deviates = deviation > NOISE * largest
    return np.asarray(np.where(deviates, centered / np.maximum(deviation, TINY), 0))
