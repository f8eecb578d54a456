"""What a data set is, in figures that its owner can check against what was meant."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from train.core.blocks import user_blocks
from train.core.keys import distinct
from train.core.schema import Interactions
from train.data.encoded import Encoded

# Equal parts of the span of time that interactions are counted in.
PARTS = 12
_BARS = " ▁▂▃▄▅▆▇█"


def profile(data: Encoded) -> dict[str, Any]:
    """Return what was read and what the interactions are like, as plain values.

    Args:
        data: encoded, with what was said where its tables were read.
    """
    events = data.interactions
    counts = np.bincount(events.user, minlength=len(data.users))
    items = np.bincount(events.item, minlength=len(data.items))
    parts = [events.part(rows) for rows in user_blocks(events.user)]
    pairs = sum(len(distinct(part.keys(len(data.items)))) for part in parts)
    active = int((counts > 0).sum()), int((items > 0).sum())
    return {
        **data.reading,
        "interactions": len(events),
        "users": active[0],
        "items": active[1],
        "pairs": pairs,
        "exact_repeats": sum(map(_exact_repeats, parts)),
        "density": pairs / max(1, active[0] * active[1]),
        "median_history": float(np.median(counts[counts > 0])) if len(events) else 0.0,
        "longest_history": int(counts.max(initial=0)),
        **_times(events),
    }


def _exact_repeats(events: Interactions) -> int:
    """Return how many rows say what another row said: user, item, time and weight."""
    order = np.lexsort((events.weight, events.timestamp, events.item, events.user))
    columns = events.user, events.item, events.timestamp, events.weight
    equal = [of[order][1:] == of[order][:-1] for of in columns]
    return int(np.logical_and.reduce(equal).sum())


def _times(events: Interactions) -> dict[str, Any]:
    if not events.timed:
        return {"timed": False}
    same = (events.user[1:] == events.user[:-1]) & (events.timestamp[1:] == events.timestamp[:-1])
    tied = np.append(same, False) | np.insert(same, 0, False)
    histogram, edges = np.histogram(events.timestamp, bins=PARTS)
    return {
        "timed": True,
        "first": int(events.timestamp.min()),
        "last": int(events.timestamp.max()),
        "histogram": histogram.tolist(),
        "edges": edges.astype(np.int64).tolist(),
        "tied_rows": int(tied.sum()),
    }


def profile_lines(of: Mapping[str, Any]) -> Iterator[str]:
    """Yield a profile as lines of text; see `profile`."""
    yield from _reading_lines(of)
    repeats = of["interactions"] - of["pairs"]
    yield (
        f"interactions: {of['interactions']:,} of {of['users']:,} users with {of['items']:,} items"
        f"; {repeats:,} are not the first of their user and item, {of['exact_repeats']:,} repeat a "
        "row exactly"
    )
    yield (
        f"density {of['density']:.2%}; a user has {of['median_history']:g} at the median, "
        f"{of['longest_history']:,} at most"
    )
    if not of["timed"]:
        yield "times: none"
        return
    yield (
        f"times: {_moment(of, 'first')} to {_moment(of, 'last')}; {of['tied_rows']:,} at the same "
        f"time as another of their user"
    )
    peak = max(of["histogram"])
    bars = "".join(_BARS[-(-count * (len(_BARS) - 1) // peak)] for count in of["histogram"])
    yield f"over the span: [{bars}] {' '.join(f'{count:,}' for count in of['histogram'])}"


def _moment(of: Mapping[str, Any], key: str) -> str:
    if of.get("times", {}).get("as") == "an order":
        return f"{of[key]:,}"
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=of[key])
    except OverflowError:
        return f"{of[key]:,}"
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _reading_lines(reading: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was read; nothing of a data set that is not made of a user's files."""
    for name, of in reading.get("files", {}).items():
        yield f"{name}: {of['location']}{_files(of)}"
    if "rows" in reading:
        dropped = [f"{count:,} {why}" for why, count in reading["dropped"].items() if count]
        yield f"rows: {reading['rows']:,} read; dropped: {', '.join(dropped) or 'none'}"
    for column, of in reading.get("ids", {}).items():
        yield f"{column}: {of['count']:,} {of['type']}s ({_few(of['examples'])}){_joined(of)}"
    times = reading.get("times", {})
    if times.get("as"):
        yield f"{times['column']}: read as {times['as']}"


def _files(of: Mapping[str, Any]) -> str:
    several = f", {of['count']:,} files" if of["count"] > 1 else ""
    if not of["passed_over"]:
        return several
    first = [f"{file} ({why})" for file, why in list(of["reasons"].items())[:3]]
    more = ", ..." if of["passed_over"] > len(first) else ""
    return f"{several}; {of['passed_over']:,} passed over: {', '.join(first)}{more}"


def _few(examples: list[Any]) -> str:
    return ", ".join([*map(repr, examples), "..."])


def _joined(of: Mapping[str, Any]) -> str:
    if "in_table" not in of:
        return ""
    found, asked, own = of["in_table"]
    return (
        f"; {found:,} of {asked:,} are in their table, which has {own - found:,} without an "
        "interaction"
    )
