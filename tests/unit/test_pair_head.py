"""Scores of pairs over a whole catalogue, on several cores."""

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from train.core.ragged import Array
from train.index import pair_index as pair_head
from train.index.pair_index import PairHead

BLAS = ThreadpoolController().select(user_api="blas")
WIDTH, HIDDEN, FACTORS = 12, 5, 3


def _head(rng: np.random.Generator) -> PairHead:
    shapes = {"wide.weight": (HIDDEN, WIDTH), "wide.bias": (HIDDEN,), "out.weight": (1, HIDDEN)}
    return PairHead({k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()})


def _threads() -> list[int]:
    return [library["num_threads"] for library in BLAS.info()]


def _scores(threads: int) -> Array:
    rng = np.random.default_rng(0)
    head = _head(rng)
    users, items = (
        rng.standard_normal((count, FACTORS + WIDTH)).astype(np.float32) for count in (9, 500)
    )
    with BLAS.limit(limits=threads):
        found = head.scores(users, items)
        assert _threads() == [threads] * len(_threads())
    return found


@pytest.mark.parametrize("rows", [7, 64, 4096])
def test_several_cores_give_the_same_scores(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_head, "ROWS", rows)
    np.testing.assert_array_equal(_scores(threads=2), _scores(threads=1))


def test_what_fails_on_another_core_fails() -> None:
    def failing(starts: range) -> None:
        raise MemoryError(f"{len(starts)} of them")

    before = _threads()
    with BLAS.limit(limits=2), pytest.raises(MemoryError, match="5 of them"):
        pair_head._on_all_cores(failing, range(10))
    assert _threads() == before
