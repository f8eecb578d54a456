"""What a process may use, and what is refused because it needs more."""

import os
import sys
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import memory
from cluster.memory import available_memory, check_room, give_back
from tests.cgroups import inside, said
from tests.driver import data_table, events, make_run, write
from train import memory as of_train
from train.data.encoded import encode
from train.datasets.files import Files
from train.fit import fit

MIB, GIB = 2**20, 2**30
SAID = "from cluster.memory import available_memory; print(available_memory())"


def machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_it_is_at_most_the_machines() -> None:
    assert 0 < available_memory() <= machine()


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": f"{2**30}\n"}, 2**30),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": f"{2**29}\n"}, 2**29),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"nothing": ""}, None),
    ],
    ids=["v2", "v2 none", "v1", "v1 none", "neither"],
)
def test_a_containers_limit_counts(
    files: dict[str, str], limit: int | None, tmp_path: Path
) -> None:
    within = inside(files, tmp_path)
    assert said(SAID, *within) == str(limit or machine())


def test_what_needs_more_is_refused_with_what_there_is() -> None:
    check_room(available_memory(), "it", "do")
    with pytest.raises(ValueError, match=r"^it needs 1024\.0 GiB of memory at least, and this p"):
        check_room(2**40, "it", "do")


def test_a_file_that_has_no_room_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.arange(3000)
    table = pa.table({"user_id": ids, "item_id": ids, "timestamp": ids})
    for name in ("a", "b"):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    files = Files(interactions=str(tmp_path), timestamp_unit="order")
    monkeypatch.setattr(memory, "available_memory", lambda: 6000 * 12)
    assert len(files.load().interactions) == 6000
    monkeypatch.setattr(memory, "available_memory", lambda: 6000 * 12 - 1)
    with pytest.raises(ValueError, match="reading 6,000 rows of user_id, item_id, timestamp needs"):
        files.load()


def test_a_fit_that_has_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "data", events())
    run = make_run(data, tmp_path / "runs")
    least = of_train.least_memory(run, encode(Files.model_validate(data_table(data)).load()))
    assert least > of_train.LIBRARIES
    wide = run.model_copy(update={"tower": run.tower.model_copy(update={"width": 800})})
    assert (
        of_train.least_memory(wide, encode(Files.model_validate(data_table(data)).load())) > least
    )
    monkeypatch.setattr(memory, "available_memory", lambda: least - 1)
    with pytest.raises(
        ValueError, match=r"a fit of .* interactions of .* set tower\.width below 8"
    ):
        fit(run)
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc's allocator")
def test_what_was_freed_is_given_back() -> None:
    process, kept = psutil.Process(), []
    for _ in range(64 * 16):
        kept.append(bytearray(2**16 - 64))  # below what the allocator maps by itself
    last = kept.pop()
    del kept
    before = process.memory_info().rss
    give_back()
    assert before - process.memory_info().rss > 32 * MIB
    assert len(last) == 2**16 - 64
