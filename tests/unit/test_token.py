"""The token of a Ray: its file, who may read it, and what is said where there is none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import token


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without a token, of a user whose files everybody may read and write."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (*token.GIVEN, "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    before = os.umask(0)
    yield tmp_path
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_token_is_made_once_for_its_owner_alone(home: Path) -> None:
    file = home / ".ray" / "auth_token"
    token.make()
    made = file.read_text()
    assert len(made) == 64
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    token.make()
    assert file.read_text() == made
    assert [path.name for path in file.parent.iterdir()] == ["auth_token"]
    token.check_given("10.0.0.1:6379")


def test_none_is_made_where_one_is_given_or_tokens_are_off(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as setting:
        setting.setenv("RAY_AUTH_TOKEN", "secret")
        token.make()
    with monkeypatch.context() as setting:
        setting.setenv("RAY_AUTH_MODE", "disabled")
        token.make()
        token.check_given("10.0.0.1:6379")
    assert not (home / ".ray").exists()


def test_joining_without_one_is_refused_and_makes_none(home: Path) -> None:
    with pytest.raises(PermissionError, match=r"no token for the Ray at 10\.0\.0\.1:6379: copy"):
        token.check_given("10.0.0.1:6379")
    assert not (home / ".ray").exists()


def test_a_named_file_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    for use in (token.make, token.has_token):
        with pytest.raises(FileNotFoundError, match="names /nowhere/token, and there is no such"):
            use()


def test_how_to_hand_it_over_is_said_where_others_may_join(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / ".ray" / "auth_token"
    said = token.hand_over("10.0.0.1:6379", open_to_others=True)
    assert f":{file} ~/.ray/auth_token && chmod 600 ~/.ray/auth_token" in said
    assert "python -m cluster start --address 10.0.0.1:6379" in said
    assert "--host opens" in token.hand_over("127.0.0.1:6379", open_to_others=False)
    file.parent.mkdir()
    file.touch(0o644)
    said = token.hand_over("127.0.0.1:6379", open_to_others=False)
    assert f"may read it: chmod 600 {file}" in said
    file.chmod(0o600)
    assert "WARNING" not in token.hand_over("127.0.0.1:6379", open_to_others=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    said = token.hand_over("10.0.0.1:6379", open_to_others=True)
    assert "its token: RAY_AUTH_TOKEN" in said
    assert "secret" not in said
