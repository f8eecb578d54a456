"""`python -m train embed-text`: a table with an embedding of its texts, made on Ray."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import ray
from ray.util import ActorPool

from cluster import storage
from cluster.session import connect, scaling
from train.core.ragged import Array
from train.datasets.columns import Column, every, integers, matches
from train.datasets.ids import PLAIN_INTEGER
from train.datasets.readers import TableFile
from train.datasets.sentence_encoder import SentenceEncoder, joined_texts, model_folder

logger = logging.getLogger(__name__)
# Texts that one task encodes: enough to sort by length, few enough to see progress.
BLOCK = 1024


@dataclass(frozen=True)
class Encoding:
    """The model that encodes texts, and the workers that it runs on.

    Attributes:
        model: folder of a model of sentence-transformers, on every node; MiniLM otherwise.
        workers: as many as there are GPUs, or else CPUs, if it is not set.
        batch_size: texts that a worker encodes at a time.
        address: of a Ray head; see `cluster.session.connect`.
    """

    model: str | None = None
    workers: int | None = None
    batch_size: int = 64
    address: str | None = None


def embed_text(
    source: str,
    target: str,
    columns: list[str],
    name: str = "text_embedding",
    encoding: Encoding = Encoding(),
) -> str:
    """Write a table with all of its columns and one more, the embedding of its texts.

    Args:
        source: a CSV or Parquet file, a folder of them, or a URI; a row for each item, say.
        target: path or URI of the Parquet file, which appears whole or not at all.
        columns: with texts; those of a row are joined, and a row without any gets no vector.
        name: of the new column, a list of `d` float32.
        encoding: model and workers.

    Returns:
        The target, absolute.

    Raises:
        FileNotFoundError: there is no such table, or no such model.
        ValueError: a column is missing or holds no text, the name is taken, or the workers do not
            fit this Ray.
    """
    read = TableFile(source).read(lambda where, there: there)
    if name in read:
        raise ValueError(f"{source}: has a column {name!r} already; choose another --name")
    texts = joined_texts(read, columns)
    folder = model_folder(encoding.model)
    session = connect(encoding.address)
    useful = min(int(session.gpus or session.cpus), -(-len(texts) // BLOCK))
    pool = _pool(folder, encoding.workers or max(useful, 1))
    kept = {name: of.values if name in columns else _typed(of) for name, of in read.items()}
    table = pa.table(kept)
    vectors = list(_encoded(pool, texts, encoding.batch_size))
    table = table.append_column(name, _lists(np.concatenate(vectors), texts))
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    storage.write_bytes(target, sink.getvalue())
    return storage.absolute(target)


def _typed(column: Column) -> pa.ChunkedArray:
    """Return a column of CSV as int64 where all are integers, as its ids are read from CSV too."""
    plain = column.written and every(matches(column.values, PLAIN_INTEGER))
    found = integers(column.values) if plain else None
    return column.values if found is None else found


def _pool(folder: str, workers: int) -> ActorPool:
    gpus = 1 if scaling(workers).use_gpu else 0
    encoder = ray.remote(num_cpus=1, num_gpus=gpus)(SentenceEncoder)
    return ActorPool([encoder.remote(folder) for _ in range(workers)])


def _encoded(pool: ActorPool, texts: pa.ChunkedArray, batch_size: int) -> Iterator[Array]:
    """Yield the vectors of each block of texts that are there, in order, and log the progress."""
    present = texts.drop_null()
    blocks: list[Any] = [
        present.slice(at, BLOCK).to_pylist() for at in range(0, len(present), BLOCK)
    ]
    began, done = time.monotonic(), 0
    for vectors in pool.map(lambda worker, block: worker.encode.remote(block, batch_size), blocks):
        done += len(vectors)
        rate = done / (time.monotonic() - began)
        logger.info("embed: %s of %s texts, %.1f/s", f"{done:,}", f"{len(present):,}", rate)
        yield vectors


def _lists(vectors: Array, texts: pa.ChunkedArray) -> pa.FixedSizeListArray:
    """Return the vectors as lists, null where there was no text."""
    present = np.asarray(texts.is_valid().to_numpy())
    filled = np.zeros((len(present), vectors.shape[1]), dtype=np.float32)
    filled[present] = vectors
    values = pa.array(filled.ravel())
    return pa.FixedSizeListArray.from_arrays(values, vectors.shape[1], mask=pa.array(~present))
