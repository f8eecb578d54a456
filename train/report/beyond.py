"""Diversity, popularity bias and debiased accuracy of a test, and what new users get, in words."""

from collections.abc import Mapping
from typing import Any

from train.report.verdict import Rows, words


def beyond_tables(metrics: Mapping[str, Any]) -> list[Rows]:
    """Return the table of diversity and popularity bias; none for bundles without the figures."""
    if "beyond" not in metrics:
        return []
    k = metrics["k"]
    columns = [f"diversity@{k}", f"popularity@{k}\n(interactions)", f"gini@{k}"]
    rows = [[words(name), *_row(of)] for name, of in metrics["beyond"].items()]
    title = "Diversity of lists, popularity bias, and NDCG with rare items weighed up"
    return [(title, ["system", *columns, f"debiased\nndcg@{k}"], rows)]


def _row(of: Mapping[str, Any]) -> list[str]:
    means = {name: value["mean"] for name, value in of.items()}
    digits = {"diversity": 4, "popularity": 1, "gini": 3, "debiased_ndcg": 4}
    return ["" if means[n] is None else f"{means[n]:.{d}f}" for n, d in digits.items()]


def new_user_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return a line about the users of the test whom nobody knew, where there are any."""
    new = metrics.get("new_users")
    if not new:
        return []
    ndcg = new["ndcg"]
    return [
        f"new users, not in the tables above: {new['users']:,} with {new['interactions']:,} "
        f"interactions; what they get ({new['source']}) has an NDCG@{metrics['k']} of "
        f"{ndcg['mean']:.4f} [{ndcg['low']:.4f}, {ndcg['high']:.4f}]"
    ]
