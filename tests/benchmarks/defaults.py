"""`python -m tests.benchmarks.defaults --data FOLDER [NAME ...]`: default fits, on real data.

Nothing is set but the columns (see `default_sets`). One table has a column a set: the baselines,
tuned; each source alone; their fusion; both stages; what the gate serves; the gain over the best
baseline of the test; seconds. It goes into `defaults.md` beside this file. `--run FILE.toml` adds a
run of your own. A set that was measured is read, not fitted again; `--prepare` writes the tables
and no more.
"""

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.default_sets import SETS
from tests.benchmarks.quality import commit
from train.bundle import evaluation_arrays
from train.bundle.bundle import check
from train.config import Run
from train.evaluation.rankings import source_row
from train.evaluation.verdict import verdict
from train.fit import fit
from train.flags import apply_flags
from train.run_files import read_table

TABLE = Path(__file__).with_name("defaults.md")
Column = dict[str, str]


def main() -> None:
    """Measure the named sets, or all, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.defaults")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SETS))
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets")
    parser.add_argument("--run", type=Path, action="append", default=[], help="a run file")
    parser.add_argument("--storage", type=Path, default=Path("runs/defaults"))
    parser.add_argument("--prepare", action="store_true", help="write tables, fit nothing")
    given, flags = parser.parse_known_args()
    # With files of runs, and no names, the public sets are not wanted.
    data = None if given.run and not given.names else given.data
    if data is not None and not data.is_dir():
        parser.error(f"no folder {data}; --data FOLDER, with what default_sets.py names")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    storage, columns = given.storage.resolve(), {}
    for name, run in runs(given.names, data, given.run, storage, flags).items():
        if not given.prepare:
            columns[name] = column(fit(run))
            print("\n".join(table({name: columns[name]})), flush=True)
    if columns:
        record(columns)


def runs(
    names: Sequence[str], data: Path | None, files: Sequence[Path], storage: Path, flags: list[str]
) -> dict[str, Run]:
    """Return a default run of each set and of each file, its tables prepared below `storage`."""
    tables: dict[str, dict[str, Any]] = {path.stem: read_table(str(path)) for path in files}
    for name in names or list(SETS):
        if data is None:
            break
        place = storage / "tables" / name
        place.mkdir(parents=True, exist_ok=True)
        tables[name] = SETS[name](data.resolve(), place)
        (place / "run.json").write_text(json.dumps(tables[name], indent=2))
    own = {"storage": str(storage), "page": False}
    return {n: apply_flags({**table, "name": n, **own}, flags) for n, table in tables.items()}


def column(place: str) -> Column:
    """Return the cells of a measured set by the names of their rows."""
    pinned, manifest = check(place)
    metrics, arrays = manifest["metrics"], evaluation_arrays.read(pinned, manifest)
    ndcg = {key[5:]: of for key, of in arrays.items() if key.startswith("ndcg.")}
    baselines = [entry["name"] for entry in manifest["picks"]["baselines"]]
    cells = {f"{name} (baseline)": _figure(ndcg, name) for name in baselines}
    sources = [entry["name"] for entry in manifest["sources"]]
    cells |= {f"{name} (source)": _figure(ndcg, source_row(name)) for name in sources}
    cells |= {"fusion": _figure(ndcg, "stage_1"), "both stages": _figure(ndcg, "both_stages")}
    both = verdict(ndcg, "both_stages", baselines, 2000, 0) if "both_stages" in ndcg else None
    cells["best baseline"] = metrics["verdict"]["baseline"]
    cells["both stages over it"] = _gain(both)
    cells["served"] = _served(manifest)
    cells["served over it"] = _gain(metrics["verdict"])
    cells["test users"] = f"{metrics['users']:,}"
    cells["seconds"] = f"{sum(manifest['seconds'].values()):.0f}"
    cells["of which"] = ", ".join(f"{part} {of:.0f}" for part, of in manifest["seconds"].items())
    cells["picked"] = "; ".join(_picked(entry) for entry in manifest["picks"]["baselines"])
    return cells


def _figure(ndcg: Mapping[str, Any], name: str) -> str:
    return f"{np.nanmean(ndcg[name]):.4f}" if name in ndcg else ""


def _gain(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    mean, low, high = (100 * found["gain"][key] for key in ("mean", "low", "high"))
    return f"{mean:+.1f} % [{low:.1f}, {high:.1f}]"


def _served(manifest: Mapping[str, Any]) -> str:
    served = str(manifest["gate"]["served"])
    return {
        "both_stages": f"both stages ({manifest['reranker'].get('name')})",
        "stage_1": "fusion",
    }.get(served, f"{served} (source)")


def _picked(entry: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{key} {value}" for key, value in entry.items() if key != "name")
    return f"{entry['name']}: {rest}" if rest else str(entry["name"])


def table(columns: Mapping[str, Column]) -> list[str]:
    """Return the lines of a Markdown table with a row a system and a column a set."""
    rows = list(dict.fromkeys(row for cells in columns.values() for row in cells))
    # Rows that one set has and another has not stand where the first set with them has them.
    rows.sort(key=lambda row: min(_places(columns, row)))
    head = [f"| NDCG@10 | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    body = [
        f"| {row} | {' | '.join(cells.get(row, '') for cells in columns.values())} |"
        for row in rows
    ]
    return head + body


def _places(columns: Mapping[str, Column], row: str) -> list[float]:
    return [list(of).index(row) / len(of) for of in columns.values() if row in of]


def record(columns: Mapping[str, Column]) -> None:
    """Write the table, with the date and the commit."""
    lines = table(columns)
    text = (
        "# Defaults on public data\n\nWritten by `python -m tests.benchmarks.defaults`, seed 0, "
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit()}.\n\n"
    )
    TABLE.write_text(text + "\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
