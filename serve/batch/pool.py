"""The parts of a batch, recommended by a pool of actors of Ray Data, one a CPU."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray.data

from serve.batch.answers import Shape, answered
from serve.batch.folder import write_part
from serve.config import ONE_THREAD
from train.bundle.bundle import open_bundle
from train.recommender.requests import Request


class Recommending:
    """An actor with a bundle, whose arrays all actors of a machine share, memory-mapped.

    Args:
        bundle: folder or URI.
        out: folder or URI of the parts.
        request: alike for all users.
        shape: of the parts.
    """

    def __init__(self, bundle: str, out: str, request: Request, shape: Shape) -> None:
        self._recommender = open_bundle(bundle).recommender
        self._out, self._request, self._shape = out, request, shape

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Write the part that the one row of a batch is of; return its number and its users."""
        number, ids = batch["part"][0].as_py(), batch["ids"].chunk(0)[0].values
        made = answered(self._recommender, ids, self._request, self._shape)
        write_part(self._out, number, made.table, made.counts)
        return pa.table({"part": [number], "users": [len(ids)]})


def recommended(
    parts: Sequence[tuple[int, pa.Array]], workers: int, *arguments: Any
) -> Iterator[dict[str, int]]:
    """Yield the number (`part`) and the `users` of each part, as soon as it is written.

    Args:
        parts: number and users of each.
        workers: actors, each with a CPU.
        arguments: of `Recommending`.
    """
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Of plans, and of bars that are not there: nothing of the parts.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    tables = [pa.table({"part": [number], "ids": _one_list(ids)}) for number, ids in parts]
    told = ray.data.from_arrow(tables).map_batches(
        Recommending,
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        fn_constructor_args=arguments,
        num_cpus=1,
        runtime_env={"env_vars": ONE_THREAD},
    )
    yield from told.iter_rows()


def _one_list(ids: pa.Array) -> pa.Array:
    """Return ids as the only element of an array of lists."""
    return pa.LargeListArray.from_arrays(pa.array([0, len(ids)], pa.int64()), ids)
