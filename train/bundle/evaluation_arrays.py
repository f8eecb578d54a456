"""Arrays of the test in a bundle: NDCG by user for comparisons, and data of the plots."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from cluster import storage
from train.bundle.manifest import BundleError
from train.core.ragged import Array

FILE = "evaluation.safetensors"


def to_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Return the content of the file."""
    return safetensors.numpy.save({k: np.asarray(a, order="C") for k, a in arrays.items()})


def read(pinned: str, manifest: Mapping[str, Any]) -> dict[str, Array]:
    """Return the arrays of a bundle.

    Args:
        pinned: its folder or URI, as `bundle.check` returned it.
        manifest: of the bundle.

    Raises:
        BundleError: it keeps nothing of its test.
    """
    if FILE not in manifest["files"]:
        raise BundleError(
            f"bundle {pinned} has no {FILE}: it keeps nothing of single test users, as "
            "bundles of earlier versions; fit the run again under another --name"
        )
    return dict(safetensors.numpy.load(storage.read_bytes(storage.join(pinned, FILE))))
