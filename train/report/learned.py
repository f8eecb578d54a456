"""What was picked and learned on the validation window: settings, and features of stage 2."""

from collections.abc import Iterator, Mapping
from typing import Any

from train.report.verdict import Rows, words

# Features in a table, the strongest ones.
FEATURES = 15
SOURCE = "source_"


def picks_tables(manifest: Mapping[str, Any]) -> Iterator[Rows]:
    """Yield the table of the settings that baselines and sources were fitted with."""
    picks = manifest.get("picks") or {}
    rows = [
        [words(entry["name"]), kind, _settings(entry)]
        for kind, of in (("baseline", "baselines"), ("source", "sources"))
        for entry in picks.get(of, [])
        if _settings(entry)
    ]
    if rows:
        title = "Settings of baselines and sources, picked on the validation window where not given"
        yield title, ["system", "as", "settings"], rows


def _settings(entry: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in entry.items() if name not in ("name", "quota")}
    return ", ".join(f"{words(name)} {_short(value)}" for name, value in kept.items())


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def importance_tables(manifest: Mapping[str, Any]) -> Iterator[Rows]:
    """Yield tables of the features that stage 2 relies on most, and of all of each source."""
    importance = manifest.get("importance") or {}
    features = importance.get("features") or {}
    if not features:
        return
    name = words((manifest.get("reranker") or {}).get("name", "stage 2"))
    rows = [[words(of), f"{value:.4g}"] for of, value in strongest(features).items()]
    yield f"What {name} relies on: {importance['measure']}", ["feature", "figure"], rows
    sources = by_source(features, manifest)
    if sources:
        rows = [[words(of), f"{value:.4g}"] for of, value in sources.items()]
        yield (
            "The same by source: sizes of its features' figures, added",
            ["source", "figure"],
            rows,
        )


def strongest(features: Mapping[str, float], count: int = FEATURES) -> dict[str, float]:
    """Return the features with the largest figures, whatever their sign."""
    return dict(sorted(features.items(), key=lambda of: -abs(of[1]))[:count])


def by_source(features: Mapping[str, float], manifest: Mapping[str, Any]) -> dict[str, float]:
    """Return the sum of the figures' sizes over the features of each source."""
    names = [source["name"] for source in manifest.get("sources") or []]
    sums = {
        name: sum(abs(of) for key, of in features.items() if key.startswith(f"{SOURCE}{name}_"))
        for name in names
    }
    return {name: of for name, of in sums.items() if of}
