"""Losses by name."""

from collections.abc import Mapping

from train.losses.base import Loss
from train.losses.pairwise import BCE, BPR, GBCE, CosineContrastive, Triplet
from train.losses.softmax import FullSoftmax, InBatchSoftmax, SampledSoftmax

LOSSES: Mapping[str, type[Loss]] = {
    "in_batch_softmax": InBatchSoftmax,
    "sampled_softmax": SampledSoftmax,
    "full_softmax": FullSoftmax,
    "bce": BCE,
    "gbce": GBCE,
    "bpr": BPR,
    "triplet": Triplet,
    "cosine_contrastive": CosineContrastive,
}
