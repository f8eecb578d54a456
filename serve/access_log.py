"""The access log: a JSON line a request, with what was answered, and with whom as a hash alone."""

import hashlib
import os
from typing import Any

# Of the environment: what users' ids are hashed with.
LOG_KEY = "RAYTOWER_LOG_KEY"
# Of an answer, what the log repeats.
REPEATED = ("source", "bundle", "degraded", "short", "history_used")
MAX_DETAIL = 200


def entry(status: int, body: Any, query: Any) -> dict[str, Any]:
    """Return what the log says of an answer, and take the times by stage out of it.

    Args:
        status: of HTTP.
        body: the answer.
        query: that was asked; None where it was refused.
    """
    if status != 200:
        return {"detail": str(body["detail"])[:MAX_DETAIL]}
    if "answers" in body:
        pairs = zip(query.requests, body["answers"], strict=True)
        return {"answers": [_answer(*pair) for pair in pairs]}
    return _answer(query, body)


def _answer(query: Any, answer: Any) -> dict[str, Any]:
    times = answer.pop("times", None)
    return {
        "user": hashed(getattr(query, "user_id", None)),
        **{key: answer[key] for key in REPEATED if key in answer},
        "items": [item["item_id"] for item in answer["items"]],
        **({"times": times} if times else {}),
    }


def hashed(user: Any) -> str | None:
    """Return a user's id as the log has it: the same for the same user, and no more.

    It is hashed with the environment's `RAYTOWER_LOG_KEY`, which the service's start draws where it
    is not set: most ids are small numbers, and whoever can hash them all finds out which it is.
    """
    if user is None:
        return None
    key = os.environ.get(LOG_KEY, "").encode()[:64]
    return hashlib.blake2b(repr(user).encode(), key=key, digest_size=8).hexdigest()
