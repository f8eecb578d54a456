"""Who may ask: keys of requests, what they may do, and how often."""

import time
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from serve.keys import SCOPES, Key, KeyRing, Scope

STRANGER = "-"
"""In the place of a key's name where a request has none."""

# Probes of load balancers and supervisors have no key, and learn no more than "ready" or not. The
# page has nothing in it until it is given a key.
OPEN = frozenset({"/healthz", "/", "/page/page.css", "/page/page.js"})
AUTHORIZATION, API_KEY = b"authorization", b"x-api-key"
BEARER = "bearer "
HINT = "; send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"


@dataclass(frozen=True)
class Refusal:
    """An answer to whom is not let in.

    Attributes:
        status: 401 without a key that is known, 429 too often.
        detail: why, in words that say nothing about other keys.
        headers: of HTTP.
    """

    status: int
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Asker:
    """Who asks.

    Attributes:
        name: of the key, or `STRANGER`.
        scope: what it may do.
    """

    name: str
    scope: Scope

    def may(self, scope: Scope) -> bool:
        """Whether the scope is among what this one may do."""
        return SCOPES.index(scope) <= SCOPES.index(self.scope)

    def lack(self, scope: Scope, what: str = "this") -> str:
        """Return why this one may not do something that needs a scope; "" where it may."""
        return (
            "" if self.may(scope) else f"{what} needs the scope {scope}; the key has {self.scope}"
        )


class Access:
    """The keys of a service, and what is left of each one's rate.

    Args:
        path: of the file of keys; None lets everybody in.
        strangers: what those without a key may do where there is no file.
        share: of a key's rate that is this replica's.

    Raises:
        ValueError: it is no file of keys.
    """

    def __init__(self, path: str | None, strangers: Scope, share: float) -> None:
        self._ring = None if path is None else KeyRing(path)
        self._anybody = Asker(STRANGER, strangers)
        self._share = share
        # Of each key: requests that are left, and when that was so.
        self._left: dict[str, tuple[float, float]] = {}

    def ask(self, scope: MutableMapping[str, Any]) -> Asker | Refusal:
        """Return who sends an ASGI request, or why it is refused."""
        if self._ring is None:
            return self._anybody
        found = self._key(scope["headers"])
        if isinstance(found, Refusal):
            return found
        if found.rate is not None and (refusal := self._spent(found)):
            return refusal
        return Asker(found.name, found.scope)

    def _key(self, headers: Iterable[tuple[bytes, bytes]]) -> Key | Refusal:
        given = [(name, value) for name, value in headers if name in (AUTHORIZATION, API_KEY)]
        # Of two, whoever stands between may have looked at the other one.
        if len(given) != 1:
            return _unknown("a key is needed" if not given else "one key is expected, got several")
        name, value = given[0]
        secret = value.decode("latin-1").strip()
        if name == AUTHORIZATION:
            if not secret.lower().startswith(BEARER):
                return _unknown("expected the header 'Authorization: Bearer KEY'", hint="")
            secret = secret[len(BEARER) :].strip()
        assert self._ring is not None
        key = self._ring.find(secret)
        if key is None:
            return _unknown("this key is not known")
        if key.expires is not None and key.expires <= datetime.now(UTC):
            return _unknown("this key has expired")
        return key

    def _spent(self, key: Key) -> Refusal | None:
        """Take one request off what a key may send; a second's worth can come at once."""
        assert key.rate is not None
        rate, now = key.rate * self._share, time.monotonic()
        most = max(1.0, rate)
        left, at = self._left.get(key.name, (most, now))
        left = min(most, left + (now - at) * rate)
        if left < 1:
            self._left[key.name] = left, now
            wait = str(max(1, round((1 - left) / rate))).encode()
            said = f"more than {key.rate:g} requests a second with this key"
            return Refusal(429, said, ((b"retry-after", wait),))
        self._left[key.name] = left - 1, now
        return None


def _unknown(detail: str, hint: str = HINT) -> Refusal:
    return Refusal(401, detail + hint, ((b"www-authenticate", b"Bearer"),))
