"""HNSW graphs by hnswlib: built and read; the only module that imports it.

hnswlib is published as source alone, so an installation without a C++ compiler lacks it; whoever
asks for a graph without it gets None, and searches exactly.
"""

import logging
import struct
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from train.core.ragged import Array

logger = logging.getLogger(__name__)

INSTALL = (
    "install a C++ compiler and Python's headers (Debian: apt-get install g++ python3-dev) and "
    "then hnswlib: run make, or pip install -c constraints.txt hnswlib"
)


def library() -> Any | None:
    """Return hnswlib, or None where it is not installed."""
    try:
        import hnswlib
    except ImportError:
        return None
    return hnswlib


@cache
def warn_of_exact_search(graph: str) -> None:
    """Log, once a process, that hnswlib is missing and exact search answers in its place.

    Args:
        graph: the search that is replaced, for the message.
    """
    logger.warning(
        "hnswlib is not installed: exact search instead of %s; for that, %s", graph, INSTALL
    )


def link(vectors: Array, labels: Array, *, m: int, breadth: int, seed: int) -> Any:
    """Return a graph of vectors, all made equally long by one more coordinate.

    The inner product with a query that has 0 there stays as it is, and the nearest neighbours by
    angle, which such graphs are good at, become those by inner product (Bachrach et al., 2014).

    Args:
        vectors: float32 `[M, d]`.
        labels: numbers by which a search returns them, `[M]`.
        m: links of a node on each layer.
        breadth: of the search when nodes are linked.
        seed: of the nodes' levels.

    Returns:
        the graph, or None where hnswlib is not installed.
    """
    hnswlib = library()
    if hnswlib is None:
        return None
    squares = (vectors.astype(np.float64) ** 2).sum(axis=1)
    rest = np.sqrt(squares.max() - squares).astype(np.float32)
    graph = hnswlib.Index(space="ip", dim=vectors.shape[1] + 1)
    graph.init_index(max_elements=len(labels), M=m, ef_construction=breadth, random_seed=seed)
    # Several threads link nodes in another order each time, and give another graph.
    graph.add_items(np.column_stack([vectors, rest]), labels, num_threads=1)
    return graph


def read(path: Path, labels: Array, width: int) -> Any:
    """Return a graph from its file, or None where hnswlib is not installed.

    Args:
        path: of the file, in hnswlib's format.
        labels: of the vectors that it must hold, ascending.
        width: of these vectors.

    Raises:
        ValueError: the file is missing, corrupt, or of other vectors.
    """
    _check_header(path, len(labels), width + 1)
    hnswlib = library()
    if hnswlib is None:
        return None
    graph = hnswlib.Index(space="ip", dim=width + 1)
    try:
        graph.load_index(str(path))
        stored = np.sort(np.array(graph.get_ids_list(), dtype=np.int64))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"{path} is not an HNSW index, or is damaged: {error}") from error
    if not np.array_equal(stored, labels):
        raise ValueError(
            f"{path} holds {len(stored)} items that are not the catalogue's {len(labels)}: "
            "take the index and the vectors of one bundle"
        )
    return graph


def later(path: Path, labels: Array, width: int) -> Any:
    """Return a graph that is read from its file when it is used, or None without hnswlib.

    Where exact search answers, the graph is there for reports alone, and takes as much memory as
    the vectors, and as long to read.

    Args:
        path, labels, width: see `read`.

    Raises:
        ValueError: the file is not of a graph of so many vectors.
    """
    _check_header(path, len(labels), width + 1)
    return None if library() is None else _Later(path, labels, width)


class _Later:
    """A graph that is read when it is used."""

    def __init__(self, path: Path, labels: Array, width: int) -> None:
        self._of = path, labels, width

    @cached_property
    def _graph(self) -> Any:
        return read(*self._of)

    def __getattr__(self, name: str) -> Any:
        """Return what the graph has of that name."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._graph, name)


def _check_header(path: Path, count: int, width: int) -> None:
    """Read hnswlib's leading sizes: loading a file of another width would not fail by itself."""
    try:
        with path.open("rb") as file:
            header = file.read(48)
    except OSError as error:
        raise ValueError(f"cannot read the HNSW index {path}: {error}") from error
    if len(header) < 48:
        raise ValueError(f"{path} is not an HNSW index: it ends after {len(header)} bytes")
    _, _, stored, _, label, data = struct.unpack("<6Q", header)
    if (stored, label - data) != (count, 4 * width):
        raise ValueError(
            f"{path} is not an HNSW index of {count} vectors of width {width - 1}: its header says "
            f"{stored} of width {(label - data) // 4 - 1}"
        )
