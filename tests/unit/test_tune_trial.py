"""What a trial goes on from."""

from pathlib import Path
from typing import Any

import pytest

from train.loop import CHECKPOINT, checkpoint_bytes
from tune.trial import newest


def written(folder: Path, number: int, content: bytes | None) -> None:
    place = folder / f"checkpoint_{number:06}"
    place.mkdir(parents=True)
    if content is not None:
        (place / CHECKPOINT).write_bytes(content)


def state(epoch: int) -> dict[str, Any]:
    return {"seeds": [], "row": {"epoch": epoch}, "state": None}


def test_a_trial_without_a_folder_or_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    assert newest(str(tmp_path / "none")) is None
    (tmp_path / "result.json").write_text("{}")
    assert newest(str(tmp_path)) is None


def test_the_newest_checkpoint_counts(tmp_path: Path) -> None:
    for epoch in (9, 10, 11):
        written(tmp_path, epoch, checkpoint_bytes(state(epoch)))
    assert newest(str(tmp_path)) == state(11)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, None])
def test_one_that_is_not_whole_gives_way_to_the_one_before(
    tmp_path: Path, share: float | None
) -> None:
    whole = checkpoint_bytes(state(2))
    written(tmp_path, 1, checkpoint_bytes(state(1)))
    written(tmp_path, 2, None if share is None else whole[: int(share * len(whole))])
    assert newest(str(tmp_path)) == state(1)
