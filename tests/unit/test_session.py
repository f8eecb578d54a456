"""Starting Ray on a machine that is busy."""

from typing import Any

import pytest
import ray

from cluster import session

LATE = "The current node timed out during startup. This could happen because some of the raylet"


def starting(monkeypatch: pytest.MonkeyPatch, *errors: Exception | None) -> list[str]:
    """Let the starts of Ray end so, one after the other; return what was called."""
    calls, left = [], list(errors)

    def init(address: str, **_options: Any) -> None:
        calls.append(f"init {address}")
        if error := left.pop(0):
            raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"))
    monkeypatch.setattr("cluster.environment.stay_on_loopback", lambda: None)
    return calls


def test_a_start_that_takes_too_long_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = starting(monkeypatch, Exception(LATE), None)
    session._start({}, dashboard=False)
    assert calls == ["init local", "shutdown", "init local"]


def test_after_some_tries_its_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = starting(monkeypatch, *[Exception(LATE)] * session.STARTS)
    with pytest.raises(Exception, match="timed out during startup"):
        session._start({}, dashboard=False)
    assert calls.count("init local") == session.STARTS


def test_other_errors_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = starting(monkeypatch, ValueError("num_cpus: expected a number"))
    with pytest.raises(ValueError, match="num_cpus"):
        session._start({}, dashboard=False)
    assert calls == ["init local"]
