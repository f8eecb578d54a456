"""Where trials are, and what one goes on from."""

from pathlib import Path
from typing import Any

import pytest

from train.trainer.checkpoint import CHECKPOINT, checkpoint_bytes
from tune.trials.trial import newest_state
from tune.trials.tuner import trials_in


def written(folder: Path, number: int, content: bytes | None) -> None:
    place = folder / f"checkpoint_{number:06}"
    place.mkdir(parents=True)
    if content is not None:
        (place / CHECKPOINT).write_bytes(content)


def state(epoch: int) -> dict[str, Any]:
    return {"seeds": [], "row": {"epoch": epoch}, "state": None}


def test_trials_have_a_folder_that_no_other_sweep_has(tmp_path: Path) -> None:
    first, second = (trials_in(str(tmp_path / name)) for name in ("one", "two"))
    assert Path(first).parent == tmp_path / "one"
    assert Path(first).name != Path(second).name
    Path(first).mkdir(parents=True)
    (tmp_path / "one" / "trials.json").write_text("[]")
    assert trials_in(str(tmp_path / "one")) == first


def test_a_trial_without_a_folder_or_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    assert newest_state(str(tmp_path / "none")) is None
    (tmp_path / "result.json").write_text("{}")
    assert newest_state(str(tmp_path)) is None


def test_the_newest_checkpoint_counts(tmp_path: Path) -> None:
    for epoch in (9, 10, 11):
        written(tmp_path, epoch, checkpoint_bytes(state(epoch)))
    assert newest_state(str(tmp_path)) == state(11)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, None])
def test_one_that_is_not_whole_gives_way_to_the_one_before(
    tmp_path: Path, share: float | None
) -> None:
    whole = checkpoint_bytes(state(2))
    written(tmp_path, 1, checkpoint_bytes(state(1)))
    written(tmp_path, 2, None if share is None else whole[: int(share * len(whole))])
    assert newest_state(str(tmp_path)) == state(1)
