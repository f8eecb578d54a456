"""Remarks about a run's data: what times they have, and whom the test is about."""

from collections.abc import Iterator, Mapping
from typing import Any

from train.data.splits.window import sentence


def data_lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield remarks about the data that a bundle was made from, a line each."""
    data = manifest.get("data") or {}
    config = manifest.get("config") or {}
    if data.get("timed") is False:
        name = (config.get("split") or {}).get("name")
        yield f"the interactions have no times: the split is {name}, and nothing is recent"
    yield from _ties(data, config.get("data") or {})
    # Bundles of an earlier version do not say.
    if manifest.get("test_window"):
        yield sentence(manifest["test_window"])


def _ties(data: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    # Bundles of an earlier version do not say how many there are.
    if not data.get("tied_users"):
        return []
    order = "the rows of the table" if settings.get("ties") == "rows" else "a hash of user and item"
    return [
        f"{data['tied_users']:,} of {data['users']:,} users have several items at their last time, "
        f"which {order} puts in order"
    ]
