"""`python -m tests.benchmarks.quality --data FOLDER [NAME ...]`: published protocols, on real data.

FOLDER has `ml-1m.zip` (GroupLens's layout), `amazon-beauty/` (`interactions.parquet` and
`items.parquet`) and `gowalla/` (`train.txt.gz`, `test.txt.gz`). Every protocol is an ordinary run,
so that an interrupted one goes on where it was; the results go into the table of `quality.md`
beside this file, a row each.
"""

import argparse
import gzip
import logging
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from train.bundle.bundle import check
from train.datasets.embed_text import embed_text
from train.fit import fit
from train.flags import apply_flags
from train.run_files import read_table

TABLE = Path(__file__).with_name("quality.md")
COLUMNS = ("protocol", "metric", "reached", "95 %", "to beat", "whose", "users", "date", "commit")
TEST = 10**6


def gowalla(data: Path, storage: Path) -> Path:
    """Return LightGCN's split as a table: what is learned from in a drawn order, then the test."""
    place = storage / "gowalla.parquet"
    if not place.exists():
        parts = [_lists(data / "gowalla" / f"{name}.txt.gz") for name in ("train", "test")]
        users, items = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        order = np.random.default_rng(0).permutation(len(users)) % (TEST - 1)
        times = order + np.repeat([0, TEST], [len(part[0]) for part in parts])
        place.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table({"user_id": users, "item_id": items, "timestamp": times})
        pq.write_table(table, place)
    return place


def _lists(path: Path) -> tuple[Any, Any]:
    """Return users and items of lines of a user and the user's items, `[N]` each."""
    with gzip.open(path, "rt") as lines:
        rows = [np.array(line.split(), dtype=np.int64) for line in lines]
    users = np.concatenate([np.repeat(row[:1], len(row) - 1) for row in rows])
    return users, np.concatenate([row[1:] for row in rows])


def sequences(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a run of a history transformer on the newest interaction of each user."""
    tower = {"name": "history_transformer", "item_attributes": False, **changes.pop("tower", {})}
    loss = {"name": "sampled_softmax", **changes.pop("loss", {})}
    train = {"learning_rate": 2e-3, "workers": 0, **changes.pop("train", {})}
    split = {"name": "leave_last", "warm_items": False, **changes.pop("split", {})}
    table = {"data": data, "split": split, "tower": tower, "loss": loss, "train": train}
    return {**table, "reranker": "none", "final_fit": "before_test", **changes}


def study_d(data: Path, _storage: Path, preset: str = "study-d") -> dict[str, Any]:
    """The preset; its baselines are measured elsewhere."""
    table = read_table(preset)
    kept = {key: value for key, value in table.items() if key != "evaluation"}
    return kept | {"data": movielens(data)}


def movielens(data: Path, **changes: Any) -> dict[str, Any]:
    """Return MovieLens-1M in the order of its file, which published figures rest on."""
    path = str(data / "ml-1m.zip")
    return {"name": "movielens-1m", "path": path, "ties": "rows", **changes}


def ml_1m(data: Path, _storage: Path) -> dict[str, Any]:
    """MovieLens-1M, leave-last-one."""
    return sequences(
        movielens(data),
        tower={"history": 200},
        loss={"name": "full_softmax"},
        train={"batch_size": 32, "epochs": 45, "weight_decay": 0.01, "patience": 5},
    )


def study_b(data: Path, _storage: Path) -> dict[str, Any]:
    """MovieLens-1M by study B's protocol: ratings from 4, the newest one held out."""
    return sequences(
        movielens(data, min_weight=4),
        tower={"history": 100},
        loss={"count": 512},
        train={"batch_size": 32, "epochs": 20, "weight_decay": 0.01, "patience": 3},
        split={"min_user_train": 5, "min_item_train": 5},
        evaluation={"more_k": [50]},
    )


def beauty(data: Path, _storage: Path) -> dict[str, Any]:
    """Amazon Beauty, leave-last-one."""
    events = str(data / "amazon-beauty" / "interactions.parquet")
    return sequences(
        {
            "name": "files",
            "interactions": events,
            "timestamp": "position",
            "timestamp_unit": "order",
        },
        tower={"history": 50, "dropout": 0.4},
        loss={"count": 1024},
        train={"batch_size": 128, "epochs": 25, "weight_decay": 0.05, "patience": 3},
    )


def beauty_items(data: Path, storage: Path) -> Path:
    """Return the items of Amazon Beauty with an embedding of what is written about them."""
    place = storage / "beauty-items.parquet"
    if not place.exists():
        source = str(data / "amazon-beauty" / "items.parquet")
        embed_text(source, str(place), ["title", "categories", "brand"], name="embedding")
    return place


def beauty_tables(data: Path, storage: Path, **kinds: str) -> dict[str, Any]:
    """Return Amazon Beauty with what is known of its items, and further columns of them."""
    columns = {"brand": "category", "categories": "categories", "embedding": "embedding", **kinds}
    items = {"items": str(beauty_items(data, storage)), "title": "title", "item_columns": columns}
    events = str(data / "amazon-beauty" / "interactions.parquet")
    order = {"timestamp": "position", "timestamp_unit": "order"}
    return {"name": "files", "interactions": events, **order, **items}


def beauty_matching(data: Path, storage: Path) -> dict[str, Any]:
    """Amazon Beauty, leave-last-one, by a MatchingMLP with a dot product beside its layers."""
    shape = {"width": 192, "factors": 176, "hidden": 32, "history": 50, "item_id": True}
    steps = {"batch_size": 2048, "epochs": 12, "learning_rate": 4e-3, "weight_decay": 0.1}
    return {
        "data": beauty_tables(data, storage, price="number"),
        "split": {"name": "leave_last"},
        "tower": {"name": "matching_mlp", "dropout": 0.3, **shape},
        "loss": {"name": "sampled_softmax", "count": 512},
        "train": {**steps, "workers": 0, "patience": 10, "validation_users": 2000},
        "reranker": "none",
        "final_fit": "before_test",
    }


def beauty_cold(data: Path, storage: Path) -> dict[str, Any]:
    """Amazon Beauty, a twentieth of the items known by their attributes alone."""
    shape = {"width": 256, "history": 50, "user_id": False, "item_id": False, "score": "cosine"}
    # Without the correction scores leave out how often an item is taken, which for these is never.
    loss = {"name": "in_batch_softmax", "temperature": 0.07, "correct_log_q": False}
    # Validation items among all and among themselves: 0.1083 and 0.1927; with a regularization of
    # 0.3 0.0844 and 0.1951; a sharpness of 4 0.1104 and 0.1860. TF-IDF neighbours: 0.0433, 0.1919.
    ridge = {"name": "content_ridge", "regularization": 0.1, "sharpness": 8.0, "dense": 0.7}
    return {
        "data": beauty_tables(data, storage),
        "split": {"name": "hold_out_items"},
        "catalogue": "all",
        "tower": {"name": "two_tower", **shape},
        "loss": loss,
        "train": {
            "batch_size": 1024,
            "learning_rate": 2e-3,
            "epochs": 10,
            "weight_decay": 0.05,
            "workers": 0,
            "patience": 3,
        },
        "reranker": "none",
        "final_fit": "before_test",
        "evaluation": {"baselines": [ridge]},
    }


def gowalla_run(data: Path, storage: Path) -> dict[str, Any]:
    """Gowalla, LightGCN's split."""
    # A fifth held out: NDCG@20 0.1335 without graph and bias, 0.1365 and 0.1417 with one of them,
    # 0.1460 with both, all 64 wide; 0.1522 with both, 192 wide.
    tower = {"name": "light_gcn", "width": 192, "score": "cosine", "item_bias": True}
    steps = {"examples": "users", "batch_size": 1024, "epochs": 40, "learning_rate": 0.01}
    stop = {"validation_users": 4000, "patience": 60}
    train = {**steps, **stop, "weight_decay": 0.0, "workers": 0}
    return {
        "data": {
            "name": "files",
            "interactions": str(gowalla(data, storage)),
            "timestamp_unit": "order",
        },
        "split": {"name": "time", "at": TEST, "validation_quantile": 0.95},
        "tower": tower,
        "loss": {"name": "sampled_softmax", "count": 4096, "temperature": 0.1},
        "train": train,
        "reranker": "none",
        "final_fit": "before_test",
        "evaluation": {"more_k": [20]},
    }


def several(build: "Run", data: Path, storage: Path) -> dict[str, Any]:
    """Return a protocol with the sources, stage 2 and gate that a run has by default."""
    one = build(data, storage)
    return {key: value for key, value in one.items() if key not in {"sources", "reranker"}}


Run = Callable[[Path, Path], dict[str, Any]]
# In a path of the report: the system that the gate chose.
SERVED = "served"
Figure = tuple[str, tuple[str, ...], float | None, str]
STUDY_D: list[Figure] = [
    ("NDCG@10, stage 1", ("systems", "stage_1", "ndcg"), 0.3655, "study D, SVD"),
    ("NDCG@10, both stages", ("systems", "both_stages", "ndcg"), 0.375, ""),
    ("NDCG@10, gain of stage 2", ("gain", "ndcg"), 0.0, ""),
]
COLD = "TF-IDF neighbours, twice"
PROTOCOLS: dict[str, tuple[Run, list[Figure]]] = {
    "study-d": (study_d, STUDY_D),
    "study-d-svd": (partial(study_d, preset="study-d-svd"), STUDY_D),
    "ml-1m-last": (
        ml_1m,
        [
            ("HR@10", ("systems", "stage_1", "hit_rate"), 0.30, "SASRec, RecTools"),
            ("NDCG@10", ("systems", "stage_1", "ndcg"), 0.178, "SASRec, RecTools"),
        ],
    ),
    "ml-1m-study-b": (
        study_b,
        [("Recall@50", ("more_k", "50", "stage_1", "recall"), 0.302, "EASE, measured")],
    ),
    "beauty-last": (
        beauty,
        [
            ("HR@10", ("systems", "stage_1", "hit_rate"), 0.093, "SASRec, eSASRec"),
            ("NDCG@10", ("systems", "stage_1", "ndcg"), 0.053, "SASRec, eSASRec"),
        ],
    ),
    "beauty-cold": (
        beauty_cold,
        [
            ("NDCG@10, towers", ("systems", "stage_1", "ndcg"), 0.0981, COLD),
            ("NDCG@10, content_ridge", ("systems", "content_ridge", "ndcg"), 0.0981, COLD),
        ],
    ),
    "beauty-matching": (
        beauty_matching,
        [
            ("MAP@10", ("systems", "stage_1", "map"), 6.5 * 0.00388, "6.5 x popularity, study A"),
        ],
    ),
    "gowalla": (
        gowalla_run,
        [
            ("Recall@20", ("more_k", "20", "stage_1", "recall"), 0.1830, "LightGCN"),
            ("NDCG@20", ("more_k", "20", "stage_1", "ndcg"), 0.1554, "LightGCN"),
        ],
    ),
    "study-d-sources": (
        partial(several, study_d),
        [("NDCG@10, as served", ("systems", SERVED, "ndcg"), 0.39, "")],
    ),
    "ml-1m-last-sources": (
        partial(several, ml_1m),
        [
            ("HR@10, as served", ("systems", SERVED, "hit_rate"), 0.33, ""),
            ("NDCG@10, as served", ("systems", SERVED, "ndcg"), 0.195, ""),
        ],
    ),
    "beauty-last-sources": (
        partial(several, beauty),
        [
            ("HR@10, as served", ("systems", SERVED, "hit_rate"), 0.105, ""),
            ("NDCG@10, as served", ("systems", SERVED, "ndcg"), 0.064, ""),
        ],
    ),
    "gowalla-sources": (
        partial(several, gowalla_run),
        [
            ("Recall@20, as served", ("more_k", "20", SERVED, "recall"), 0.2, ""),
            ("NDCG@20, as served", ("more_k", "20", SERVED, "ndcg"), 0.168, ""),
        ],
    ),
}


def measure(name: str, data: Path, storage: Path, flags: list[str], source: str) -> list[list[str]]:
    """Run one protocol of a commit's, or finish it, and return its rows of the table."""
    build, figures = PROTOCOLS[name]
    run = apply_flags({**build(data, storage), "name": name, "storage": str(storage)}, flags)
    report = check(fit(run))[1]["metrics"]
    rows = []
    for metric, path, target, whose in figures:
        found: Any = report
        for key in path:
            found = found[report["verdict"]["served"] if key == SERVED else key]
        row = [name, metric, f"{found['mean']:.4f}", f"[{found['low']:.4f}, {found['high']:.4f}]"]
        row += [f"> {target:g}", whose, f"{report['users']:,}", f"{datetime.now(UTC):%Y-%m-%d}"]
        rows.append([*row, source])
    return rows


def commit() -> str:
    """Return the short name of the commit that this is run from."""
    words = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def record(rows: list[list[str]]) -> None:
    """Put rows into the table, over those of the same protocol and metric."""
    kept = []
    if TABLE.exists():
        lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
        kept = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    new = {(row[0], row[1]) for row in rows}
    everything = [row for row in kept if (row[0], row[1]) not in new] + rows
    everything.sort(key=lambda row: list(PROTOCOLS).index(row[0]))
    head = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    body = [f"| {' | '.join(row)} |" for row in everything]
    text = (
        "# Quality on public data\n\nWritten by `python -m tests.benchmarks.quality`; seed 0.\n\n"
    )
    TABLE.write_text(text + "\n".join([*head, *body]) + "\n")


def main(words: list[str]) -> None:
    """Measure the named protocols, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.quality")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROTOCOLS))
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--storage", type=Path, default=Path("runs/quality"))
    chosen, flags = parser.parse_known_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # What is recorded of one protocol is no change of what the next one is run from.
    source = commit()
    for name in chosen.names or PROTOCOLS:
        rows = measure(name, chosen.data.resolve(), chosen.storage.resolve(), flags, source)
        record(rows)
        for row in rows:
            print("  ".join(row), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
