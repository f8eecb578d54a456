"""The table of rolling folds."""

from collections.abc import Iterator, Mapping
from typing import Any

from train.report.verdict import Rows, words


def fold_tables(metrics: Mapping[str, Any]) -> Iterator[Rows]:
    """Yield mean and standard deviation of every system over folds, where there are several."""
    folds = metrics.get("folds")
    if not folds:
        return
    count, k = len(folds["cuts"]), metrics["k"]
    title = f"{count} folds, each test before the next: mean, standard deviation, the newest first"
    columns = ["system", f"ndcg@{k}", f"recall@{k}"]
    columns += [f"ndcg@{k}\nfold {number + 1}" for number in range(count)]
    rows = [["users", "", "", *(f"{users:,}" for users in folds["users"])]]
    for name, of in folds["systems"].items():
        spread = [f"{_figure(of[m]['mean'])}\n+- {of[m]['sd']:.4f}" for m in ("ndcg", "recall")]
        rows.append([words(name), *spread, *map(_figure, of["ndcg"]["values"])])
    yield title, columns, rows


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
