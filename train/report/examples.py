"""Some users' histories beside what they are recommended."""

from collections.abc import Iterator

import numpy as np

from train.bundle.bundle import Bundle
from train.recommender.answers import recommend
from train.recommender.recommender import Recommender
from train.recommender.requests import Request
from train.report.verdict import Rows

USERS = 10
ITEMS = 10
# Of a title, so that two columns of them fit a page.
LETTERS = 48


def example_tables(bundle: Bundle, seed: int = 0) -> Iterator[Rows]:
    """Yield a table a user: the newest items of the history, and what is recommended now.

    Args:
        bundle: that answers.
        seed: of the draw among users with a history.
    """
    recommender = bundle.recommender
    known = np.flatnonzero(recommender.histories.lengths > 0)
    if not len(known):
        return
    drawn = np.sort(np.random.default_rng(seed).choice(known, min(USERS, len(known)), False))
    ids = recommender.users.external(drawn)
    answers = recommend(recommender, [Request(user_id=user, k=ITEMS) for user in ids])
    for user, name, answer in zip(drawn, ids, answers, strict=True):
        shown = [_titled(entry["item_id"], entry.get("title")) for entry in answer["items"]]
        past = _history(recommender, int(user))
        rows = [
            [past[place] if place < len(past) else "", shown[place] if place < len(shown) else ""]
            for place in range(max(len(past), len(shown)))
        ]
        yield f"User {name}", ["history, newest first", "recommended"], rows


def _history(recommender: Recommender, user: int) -> list[str]:
    newest = recommender.histories.take(np.array([user])).values[::-1][:ITEMS]
    return [_titled(*of) for of in zip(*recommender.named(newest), strict=True)]


def _titled(item: object, title: str | None) -> str:
    text = str(item) if title is None else title
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"
