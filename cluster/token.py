"""The token that a Ray expects of everybody who joins it: a file that its owner alone can read."""

import contextlib
import logging
import os
import socket
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

GIVEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
HOW = "its `python -m cluster start` says where its token lies and how to hand it over"


def place() -> str:
    """Return where this machine's token is: a file, or the variable that holds it."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    return os.environ.get("RAY_AUTH_TOKEN_PATH") or str(_file())


def make() -> None:
    """Make a token where this machine has none, in a file of mode 0600 from its first byte on.

    Ray would make one by itself, for everybody on the machine to read.

    Raises:
        FileNotFoundError: `RAY_AUTH_TOKEN_PATH` names a file that is not there.
    """
    if not wanted(os.environ) or has_token():
        return
    from ray._private.authentication.authentication_token_generator import (
        generate_new_authentication_token,
    )

    file = _file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=".auth_token-", dir=file.parent)
    try:
        with open(handle, "w") as stream:
            stream.write(generate_new_authentication_token())
        # Unlike a rename it leaves the token of a process that was faster alone.
        with contextlib.suppress(FileExistsError):
            os.link(part, file)
    finally:
        os.unlink(part)


def hand_over(address: str, open_to_others: bool) -> str:
    """Return where the token of a head lies, and how a second machine gets it and joins."""
    if not wanted(os.environ):
        return "no token: RAY_AUTH_MODE turns it off, and whoever reaches the head runs code"
    said = f"its token: {place()}{_warning()}"
    if not open_to_others:
        return f"{said} (another machine cannot join: --host opens the head to it)"
    source = "" if place() == "RAY_AUTH_TOKEN" else f"{socket.gethostname()}:{place()}"
    copy = f"scp {source} ~/.ray/auth_token" if source else "put its value in ~/.ray/auth_token"
    return (
        f"{said}; to add a machine, there:\n"
        f"  mkdir -m 700 -p ~/.ray && {copy} && chmod 600 ~/.ray/auth_token\n"
        f"  python -m cluster start --address {address}"
    )


def _warning() -> str:
    """Return what is wrong with a file that was made by others, as Ray itself makes it."""
    file = Path(place()).expanduser()
    if file.is_file() and file.stat().st_mode & 0o077:
        return f" (WARNING: others on this machine may read it: chmod 600 {file})"
    return ""


def check_given(address: str) -> None:
    """Check that this machine has a token to join the Ray at an address with.

    Raises:
        PermissionError: it has none, and none is made: another one would not be let in.
    """
    if wanted(os.environ) and not has_token():
        raise PermissionError(
            f"this machine has no token for the Ray at {address}: copy its token to "
            f"{_file()} (mode 0600), or name its file in RAY_AUTH_TOKEN_PATH; {HOW}"
        )


def wanted(environ: Mapping[str, str]) -> bool:
    """Return whether an environment leaves token authentication on, as it is by default here."""
    return environ.get("RAY_AUTH_MODE", "token").lower() == "token"


def has_token() -> bool:
    """Return whether this machine has a token.

    Raises:
        FileNotFoundError: `RAY_AUTH_TOKEN_PATH` names a file that is not there.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named and not Path(named).expanduser().is_file():
        raise FileNotFoundError(
            f"RAY_AUTH_TOKEN_PATH names {named}, and there is no such file; put the token of the "
            "cluster there, or unset the variable"
        )
    return bool(named) or _file().exists()


def use() -> None:
    """Send this machine's token, if it has one, to the Ray that is joined next.

    Ray does so by itself for a Ray that it finds, and not for one by its address.
    """
    from ray._private.authentication import authentication_token_setup as setup

    # Ray would warn that tokens are on; here that is as it should be.
    logging.getLogger(setup.__name__).setLevel(logging.ERROR)
    setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextlib.contextmanager
def explained(target: str) -> Iterator[None]:
    """Raise one PermissionError for Ray's many errors about a wrong token.

    Raises:
        PermissionError: the Ray at `target` expects another token, or one at all.
    """
    try:
        yield
    except Exception as error:
        # It may be the cause of Ray's exception, or a part of its text alone; what all have in
        # common is the page that they point to.
        if "token-auth" not in "".join(traceback.format_exception(error)):
            raise
        raise PermissionError(
            f"the Ray at {target} expects another token than this machine has: put its token into "
            f"{_file()} (mode 0600), or the name of its file into RAY_AUTH_TOKEN_PATH; {HOW}"
        ) from error


def _file() -> Path:
    return Path.home() / ".ray" / "auth_token"
