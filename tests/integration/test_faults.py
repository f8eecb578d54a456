"""Fits that are ended from outside, a few cells of the table of `tests.kill_matrix`."""

from pathlib import Path

from tests.kill_matrix import bundle_of, fit


def test_the_same_command_goes_on_after_ray_has_died(tmp_path: Path) -> None:
    ended, seconds, said = fit(tmp_path, "select", "raylet")
    assert seconds is not None, said
    assert ended == 1, said
    last = said.rstrip().splitlines()[-1]
    assert "raylet, Ray's process on this machine, has died; its log: " in last
    assert last.endswith("The same command goes on at the last checkpoint.")
    assert "Traceback" not in said
    assert "vectors.safetensors" in bundle_of(tmp_path, *fit(tmp_path))


def test_after_training_nothing_needs_ray_and_an_end_is_orderly(tmp_path: Path) -> None:
    ended, seconds, said = fit(tmp_path, "rerank", "SIGTERM")
    assert seconds is not None, said
    assert ended == 143, said
    assert said.rstrip().endswith("terminated")
    assert "Traceback" not in said
