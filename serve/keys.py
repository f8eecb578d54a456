"""API keys: a file of their hashes, with what each may do, and `python -m serve keys`."""

import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import AwareDatetime, Field, ValidationError, field_validator
from tyro.conf import Positional

from train.core.settings import Settings

logger = logging.getLogger("ray.serve")

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
"""Each may do what those before it may."""

PREFIX = "rt_"
# Seconds between two looks at whether the file has changed.
LOOK = 1.0


class Key(Settings):
    """One key of a file; the key itself is not in it.

    Attributes:
        name: who has it, for logs and for `remove`.
        sha256: of the key, hexadecimal. Keys have 256 random bits, so no slower hash is needed.
        scope: what it may do: `read` asks for recommendations, `write` is for what changes the
            service, `admin` sees paths, settings and traces too.
        rate: requests a second that it may send; None is no limit.
        expires: when it ends; None is never.
    """

    name: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9._@-]*$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scope: Scope = "read"
    rate: float | None = Field(None, gt=0)
    expires: AwareDatetime | None = None


class KeyFile(Settings):
    """The keys of a service.

    Attributes:
        version: of this format.
        keys: each name once.
    """

    version: Literal[1] = 1
    keys: tuple[Key, ...] = ()

    @field_validator("keys")
    @classmethod
    def _names_once(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        names = [key.name for key in keys]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"a name can be there once; more than once: {', '.join(twice)}")
        return keys


def read(path: str | Path) -> tuple[Key, ...]:
    """Return the keys of a file.

    Raises:
        ValueError: the file cannot be read or is no file of keys.
    """
    try:
        return KeyFile.model_validate_json(Path(path).read_bytes()).keys
    except OSError as error:
        words = f"cannot read the keys in {path}: {error.strerror}"
        raise ValueError(f"{words}; python -m serve keys add NAME makes them") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"{path} is no file of keys: {place}: {first['msg']}") from None


def write(path: str | Path, keys: Sequence[Key]) -> None:
    """Write a file of keys for its owner alone, whole or not at all."""
    place = Path(path)
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(KeyFile(keys=tuple(keys)).model_dump_json(indent=2) + "\n")
    draft.replace(place)


def digest(secret: str) -> str:
    """Return the SHA-256 of a key, hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def find(keys: Sequence[Key], secret: str) -> Key | None:
    """Return the key that this is; the time it takes says nothing of how near a guess was."""
    own, found = digest(secret), None
    for key in keys:
        if hmac.compare_digest(own, key.sha256):
            found = key
    return found


class KeyRing:
    """The keys of a file, read anew when it has changed.

    Args:
        path: of the file.

    Raises:
        ValueError: it is no file of keys.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp = self._look()
        self._keys = read(path)
        self._looked = time.monotonic()

    def find(self, secret: str) -> Key | None:
        """Return the key that this is, None where there is no such key."""
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked = now
            self._reload()
        return find(self._keys, secret)

    def _reload(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read(self._path)
        except ValueError as error:
            # A typing mistake locks nobody out, and lets nobody in.
            logger.error("the keys stay as they were: %s", error)

    def _look(self) -> tuple[int, int, int]:
        try:
            found = os.stat(self._path)
        except OSError:
            return 0, 0, 0
        return found.st_mtime_ns, found.st_size, found.st_ino


class Add(Settings):
    """Make a key, and print it once: the file has its hash alone.

    Attributes:
        name: who is to have it.
        file: of the keys.
        scope: `read` asks for recommendations, `admin` sees paths, settings and traces too.
        rate: requests a second that it may send, without a limit by default.
        expires: a time with its zone, such as 2027-01-31T00:00:00Z; never by default.
    """

    name: Positional[str]
    file: str = "keys.json"
    scope: Scope = "read"
    rate: float | None = None
    expires: str | None = None

    def run(self) -> None:
        """Add it."""
        keys = read(self.file) if Path(self.file).exists() else ()
        if any(key.name == self.name for key in keys):
            raise ValueError(f"{self.file} has a key of {self.name!r}; remove it first")
        secret = PREFIX + secrets.token_urlsafe(32)
        try:
            new = Key.model_validate(self.model_dump(exclude={"file"}) | {"sha256": digest(secret)})
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None
        write(self.file, [*keys, new])
        print(secret)


class Remove(Settings):
    """Take a key out of the file; a service that runs refuses it within a second.

    Attributes:
        name: who has it.
        file: of the keys.
    """

    name: Positional[str]
    file: str = "keys.json"

    def run(self) -> None:
        """Remove it."""
        keys = read(self.file)
        left = [key for key in keys if key.name != self.name]
        if len(left) == len(keys):
            names = ", ".join(key.name for key in keys) or "none"
            raise ValueError(f"{self.file} has no key of {self.name!r}; it has: {names}")
        write(self.file, left)


class Show(Settings):
    """List who has a key, and what for.

    Attributes:
        file: of the keys.
    """

    file: str = "keys.json"

    def run(self) -> None:
        """Print a line a key."""
        now = datetime.now(UTC)
        for key in read(self.file):
            rate = "no limit" if key.rate is None else f"{key.rate:g} a second"
            ended = key.expires is not None and key.expires <= now
            until = "for ever" if key.expires is None else f"until {key.expires:%Y-%m-%d %H:%M %Z}"
            print(f"{key.name}: {key.scope}, {rate}, {until}{' (ended)' if ended else ''}")


Command = (
    Annotated[Add, tyro.conf.subcommand("add")]
    | Annotated[Remove, tyro.conf.subcommand("remove")]
    | Annotated[Show, tyro.conf.subcommand("list")]
)


def main(words: list[str]) -> int:
    """Add, remove or list keys.

    Raises:
        ValueError: the file is no file of keys, or the name is there already, or is not.
    """
    command: Add | Remove | Show = tyro.cli(Command, args=words, prog="python -m serve keys")
    command.run()
    return 0
