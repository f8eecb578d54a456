"""The report of a run as one HTML file with everything in it: tables, plots, configuration."""

import html
from collections.abc import Iterator, Mapping
from typing import Any

from cluster import storage
from train.bundle import evaluation_arrays
from train.bundle.bundle import Bundle, open_bundle
from train.core.ragged import Array
from train.data.profile import profile_lines
from train.index.build import sweep
from train.report import plots
from train.report.data import data_lines
from train.report.examples import example_tables
from train.report.html import box, bullets, document, figure, folded, table
from train.report.item_map import item_map
from train.report.learned import FEATURES, importance_tables, picks_tables
from train.report.text import remarks, tables
from train.report.verdict import WARNING, disagreement, gate_tables, verdict_lines

FILE = "report.html"
# Users whose searches are timed.
QUERIES = 500
# Exact search holds all scores of its queries: at most so many float32, 256 MB.
SCORES = 2**26
# At least so many queries, or times are noise.
BATCH = 32


def write_page(location: str, to: str | None = None) -> str:
    """Write the page of a bundle, whole or not at all.

    Args:
        location: a bundle's or a run's folder or URI.
        to: path or URI of the page; by default `report.html` in the folder of the run.

    Returns:
        the path or URI of the page.

    Raises:
        BundleError: as `open_bundle`.
    """
    bundle = open_bundle(location)
    place = storage.absolute(to) if to else _beside(location)
    storage.write_bytes(place, page(bundle).encode())
    return place


def page(bundle: Bundle) -> str:
    """Return the HTML page of a bundle; an earlier version's lacks sections without data."""
    manifest = bundle.manifest
    has_arrays = evaluation_arrays.FILE in manifest["files"]
    test = evaluation_arrays.read(str(bundle.folder), manifest) if has_arrays else {}
    parts = [*_head(bundle), *_measured(manifest), *_read(manifest), *_trained(manifest)]
    parts += [*_retrieval(bundle, test), *_learned(manifest), *_items(bundle)]
    parts += [*_examples(bundle), *_configuration(manifest)]
    return document(f"{manifest.get('name', 'bundle')}: report", parts)


def _beside(location: str) -> str:
    """Return the path of the page in the run's folder, or beside a bundle outside of one."""
    place = storage.absolute(location)
    if storage.MANIFEST in storage.names(place):
        bundles = storage.parent(place)
        home = storage.parent(bundles)
        place = home if storage.join(home, "bundles") == bundles else bundles
    return storage.join(place, FILE)


def _head(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    data = manifest["config"].get("data", {}).get("name", "unknown data")
    facts = (
        f"bundle {bundle.version}, made {manifest['created']} from {data}: "
        f"{len(bundle.recommender.users):,} users, {len(bundle.recommender.items):,} items"
    )
    yield f"<h1>{html.escape(str(manifest.get('name', 'bundle')))}</h1>"
    yield f'<p class="facts">{html.escape(facts)}</p>'
    verdict = verdict_lines(manifest)
    if verdict:
        alarming = verdict[0].startswith(WARNING)
        yield box([*verdict, *disagreement(manifest)], alarming)


def _read(manifest: Mapping[str, Any]) -> Iterator[str]:
    profile = (manifest.get("data") or {}).get("profile")
    # Bundles of an earlier version do not say what was read.
    if profile:
        yield "<h2>The data</h2>"
        yield bullets(list(profile_lines(profile)))


def _measured(manifest: Mapping[str, Any]) -> Iterator[str]:
    metrics = manifest.get("metrics") or {}
    if "systems" not in metrics:
        return
    first, *others = tables(metrics)
    yield "<h2>The test</h2>"
    yield table(*first)
    caption = "What answers with several sources is in orange, each source alone in blue."
    yield figure("Systems and their intervals", caption, plots.systems, metrics)
    yield bullets([*remarks(metrics, manifest["reranker"]), *data_lines(manifest)])
    yield from (table(*other) for other in (*gate_tables(manifest), *others))


def _trained(manifest: Mapping[str, Any]) -> Iterator[str]:
    training = manifest.get("training") or {}
    # A tower that is fitted in closed form has no curve.
    if not any("loss" in row for row in training.get("select", [])):
        return
    yield "<h2>Training</h2>"
    caption = (
        "Towers on what was before the validation window, which decides how many epochs "
        "the towers that are measured and served are fitted for."
    )
    yield figure(
        "Learning curves", caption, plots.learning_curves, training["select"], training["epochs"]
    )


def _retrieval(bundle: Bundle, test: Mapping[str, Array]) -> Iterator[str]:
    yield "<h2>Stage 1</h2>"
    if "score_edges" in test:
        caption = (
            "A test pair scores higher than a random unseen item of the same users with "
            f"a chance of {test['score_auc'][0]:.3f}; 0.5 would be no order at all."
        )
        yield figure("Scores of pairs", caption, plots.score_densities, test)
    if "recall_counts" in test:
        caption = "Recall on the test: what stage 2 is not given, it cannot recommend."
        yield figure(
            "Recall by candidates",
            caption,
            plots.recall_by_count,
            test,
            bundle.recommender.candidates,
        )
    if bundle.recommender.index.tunable:
        yield _searched(bundle)
    else:
        yield "<p>Its layers score pairs, which nothing can index: a search tries every item.</p>"


def _searched(bundle: Bundle) -> str:
    recommender = bundle.recommender
    known = recommender.user_vectors[recommender.histories.lengths > 0]
    count = max(BATCH, min(QUERIES, SCORES // len(recommender.items)))
    queries = (known if len(known) else recommender.item_vectors)[:count]
    k = int((bundle.manifest.get("metrics") or {}).get("k", 10))
    report = recommender.index.report
    how = f"by HNSW at ef {report['ef']}" if report["used"] == "hnsw" else "exactly"
    caption = (
        f"Search over {report['count']:,} vectors of width {report['width']}, timed where this "
        f"page was made; numbers are ef. This bundle is searched {how}."
    )
    rows = sweep(recommender.index, queries, k)
    return figure("Search: recall by time", caption, plots.recall_by_time, rows, k)


def _learned(manifest: Mapping[str, Any]) -> Iterator[str]:
    features = (manifest.get("importance") or {}).get("features")
    picked = [*picks_tables(manifest)]
    if picked or features:
        yield "<h2>What was learned</h2>"
    if features:
        measure = manifest["importance"]["measure"]
        caption = f"The {min(FEATURES, len(features))} features that stage 2 relies on most."
        yield figure("Importance of features", caption, plots.importance, features, measure)
    # The features of the figure are not shown twice.
    yield from (table(*one) for one in [*importance_tables(manifest)][1:])
    yield from (table(*one) for one in picked)


def _examples(bundle: Bundle) -> Iterator[str]:
    found = [*example_tables(bundle)]
    if found:
        yield "<h2>Users</h2>"
        yield "<p>What some users had, and what this bundle recommends to them now.</p>"
        yield from (table(*one) for one in found)


def _items(bundle: Bundle) -> Iterator[str]:
    euclidean = bundle.manifest["config"].get("tower", {}).get("score") == "euclidean"
    count = bundle.recommender.statistics.item_count
    mapped = item_map(
        bundle.recommender.directions,
        bundle.recommender.item_features,
        count,
        directions=not euclidean,
    )
    if mapped is None:
        return
    of = f", colored by {mapped.column}" if mapped.column else ""
    caption = (
        f"The {len(mapped.items):,} most popular items by t-SNE of their vectors{of}: near ones "
        "score alike for the same users; distances between groups far apart mean nothing."
    )
    if mapped.column:
        caption += " An item with several values has the color of its rarest frequent one."
    yield "<h2>Items</h2>"
    titles = bundle.recommender.named(mapped.items)[1]
    yield figure("Map of the items", caption, plots.items_on_a_plane, mapped, titles)


def _configuration(manifest: Mapping[str, Any]) -> Iterator[str]:
    facts = {key: manifest[key] for key in ("config", "data", "libraries") if key in manifest}
    yield "<h2>Configuration</h2>"
    yield folded("config, data and libraries", facts)
