"""Sources of a run: those that suit the data, their settings picked, and fitted."""

import logging
from collections.abc import Iterable, Sequence

from train.data.snapshot import Snapshot
from train.sources.base import Source, SourceSettings
from train.sources.entries import TowerSource

logger = logging.getLogger(__name__)


def suitable(
    sources: Sequence[SourceSettings], known: Snapshot, named: bool
) -> tuple[SourceSettings, ...]:
    """Return the sources that the data suffice for.

    Args:
        sources: settings.
        known: the snapshot that they are first fitted on.
        named: whether somebody asked for these; else they are the defaults, and those that lack
            something are left out with a sentence in the log.

    Raises:
        ValueError: a source that was named lacks something.
    """
    kept = []
    for source in sources:
        lack = source.lacks(known)
        if lack is None:
            kept.append(source)
        elif named:
            raise ValueError(
                f"source {source.name} cannot be fitted to these data: {lack}; take it out of "
                "sources"
            )
        else:
            logger.info("source %s is left out: %s", source.name, lack)
    return tuple(kept)


def fit_sources(sources: Iterable[SourceSettings], known: Snapshot, seed: int) -> dict[str, Source]:
    """Fit every source but the towers, which are trained, on a snapshot."""
    fitted = {}
    for settings in sources:
        if not isinstance(settings, TowerSource):
            logger.debug("source %s: fitting", settings.name)
            fitted[settings.name] = settings.source(known, seed)
    return fitted
