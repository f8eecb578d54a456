"""Encoders of the columns of the item and user tables."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.core.schema import Kind


@dataclass(frozen=True)
class Encoder:
    """The fitted state of every column of one table; the same object encodes new rows later.

    Attributes:
        columns: kind and fitted state (plain JSON values) of each column.
    """

    columns: Mapping[str, Mapping[str, Any]]

    @classmethod
    def fit(cls, table: pa.Table, columns: Mapping[str, Kind]) -> "Encoder":
        """Fit every declared column of a canonical table."""
        return cls(
            {
                name: {"kind": kind, **_FIT[kind](table[name].combine_chunks())}
                for name, kind in columns.items()
            }
        )

    def encode(self, table: pa.Table) -> Features:
        """Encode the rows of a canonical table; values never seen in fitting count as missing."""
        dense, names, rows, codes = [], [], [], []
        vocabulary: list[str] = []
        for name, state in self.columns.items():
            column = table[name].combine_chunks()
            if state["kind"] in ("category", "categories"):
                row, code = _codes(column, state["vocabulary"])
                rows.append(row)
                codes.append(code + len(vocabulary))
                vocabulary += [f"{name}={value}" for value in state["vocabulary"]]
            else:
                block = _DENSE[state["kind"]](column, state)
                dense.append(block)
                names += _names(name, block.shape[1])
        count = len(table)
        return Features(
            np.hstack([np.zeros((count, 0)), *dense]).astype(np.float32),
            tuple(names),
            Ragged.from_pairs(_join(rows), _join(codes), count),
            tuple(vocabulary),
        )

    def changed(self, stored: Features, own: Features, given: Collection[str]) -> Features:
        """Return a row with some columns of another one.

        Args:
            stored: one encoded row.
            own: another one.
            given: columns that are taken from it, the others are from `stored`.
        """
        dense, codes = stored.dense.copy(), []
        at = first = 0
        for name, state in self.columns.items():
            source = own if name in given else stored
            if state["kind"] in ("category", "categories"):
                size, values = len(state["vocabulary"]), source.categories.values
                codes.append(values[(values >= first) & (values < first + size)])
                first += size
            else:
                width = _width(state)
                dense[:, at : at + width] = source.dense[:, at : at + width]
                at += width
        every = _join(codes)
        categories = Ragged.from_pairs(np.zeros(len(every), np.int64), every, 1)
        return Features(dense, stored.dense_names, categories, stored.vocabulary)

    def layout(self) -> tuple[int, int]:
        """Return how many dense columns its features have, and how many codes."""
        states = self.columns.values()
        codes = sum(len(of.get("vocabulary", ())) for of in states)
        dense = [of for of in states if of["kind"] not in ("category", "categories")]
        return sum(map(_width, dense)), codes

    def to_json(self) -> str:
        """Return the fitted state as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Encoder":
        """Rebuild from `to_json`'s text."""
        return cls(**json.loads(text))


def _join(parts: list[Array]) -> Array:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _flat(column: pa.Array) -> tuple[Array, pa.Array]:
    """Return the row number and the value of each single category of a column."""
    if pa.types.is_list(column.type):
        return pc.list_parent_indices(column).to_numpy(), pc.list_flatten(column)
    valid = np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False))
    return valid, column.drop_null()


def _codes(column: pa.Array, vocabulary: list[str]) -> tuple[Array, Array]:
    rows, values = _flat(column)
    codes = pc.index_in(values, value_set=pa.array(vocabulary, pa.string()))
    codes = pc.fill_null(codes, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return rows[codes >= 0], codes[codes >= 0]


def _fit_vocabulary(column: pa.Array) -> dict[str, Any]:
    return {"vocabulary": sorted(pc.unique(_flat(column)[1]).drop_null().to_pylist())}


def _fit_number(column: pa.Array) -> dict[str, Any]:
    values = column.drop_null().cast(pa.float64()).to_numpy(zero_copy_only=False)
    missing = column.null_count > 0
    # Rounding alone gives a column of equal numbers a deviation above 0.
    if not len(values) or values.min() == values.max():
        mean = float(values[0]) if len(values) else 0.0
        return {"mean": mean, "scale": 1.0, "missing": missing}
    return {"mean": float(values.mean()), "scale": float(values.std()), "missing": missing}


def _number(column: pa.Array, state: Mapping[str, Any]) -> Array:
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    missing = np.isnan(values)
    scaled = np.where(missing, 0.0, (values - state["mean"]) / state["scale"])
    return np.column_stack([scaled, missing] if state["missing"] else [scaled])


def _flag(column: pa.Array, _state: Mapping[str, Any]) -> Array:
    flags = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return np.asarray(flags, dtype=np.float32)[:, None]


def _fit_text(column: pa.Array, terms: int = 5000, width: int = 16) -> dict[str, Any]:
    """Fit TF-IDF, then a truncated SVD, then scaling to unit variance.

    Texts of fewer than two different words give no columns.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = column.drop_null().to_pylist()
    tfidf = TfidfVectorizer(max_features=terms, sublinear_tf=True)
    try:
        matrix = tfidf.fit_transform(texts)
    except ValueError:  # there is not one word
        matrix = np.empty((0, 0))
    if matrix.shape[1] < 2:
        return {"terms": {}, "idf": [], "components": [], "mean": [], "scale": []}
    svd = TruncatedSVD(max(1, min(width, *(n - 1 for n in matrix.shape))), random_state=0)
    dense = svd.fit_transform(matrix)
    return {
        "terms": {term: int(index) for term, index in tfidf.vocabulary_.items()},
        "idf": tfidf.idf_.tolist(),
        "components": svd.components_.tolist(),
        "mean": dense.mean(axis=0).tolist(),
        "scale": (dense.std(axis=0) + 1e-9).tolist(),
    }


def _text(column: pa.Array, state: Mapping[str, Any]) -> Array:
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not len(column) or not state["terms"]:
        return np.zeros((len(column), len(state["mean"])))
    tfidf = TfidfVectorizer(vocabulary=state["terms"], sublinear_tf=True)
    tfidf.idf_ = np.array(state["idf"])
    dense = tfidf.transform(pc.fill_null(column, "").to_pylist()) @ np.array(state["components"]).T
    scaled = (dense - np.array(state["mean"])) / np.array(state["scale"])
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    return np.asarray(scaled * present[:, None])


def fit_embedding(column: pa.Array) -> dict[str, Any]:
    """Return the state of an embedding column, its width."""
    return {"width": column.type.list_size}


def embedding_rows(column: pa.Array, state: Mapping[str, Any]) -> Array:
    """Return the rows of an embedding column, 0 where missing, float32 `[n, width]`."""
    filled = np.zeros((len(column), state["width"]), np.float32)
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    values = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    filled[present] = values.reshape(-1, state["width"])
    return filled


_FIT: dict[str, Any] = {
    "category": _fit_vocabulary,
    "categories": _fit_vocabulary,
    "number": _fit_number,
    "flag": lambda column: {},
    "text": _fit_text,
    "embedding": fit_embedding,
}

_DENSE: dict[str, Any] = {
    "number": _number,
    "flag": _flag,
    "text": _text,
    "embedding": embedding_rows,
}


def _width(state: Mapping[str, Any]) -> int:
    """Return how many dense columns a fitted column has."""
    if state["kind"] == "number":
        return 1 + bool(state["missing"])
    if state["kind"] == "flag":
        return 1
    return len(state["mean"]) if state["kind"] == "text" else int(state["width"])


def _names(column: str, width: int) -> list[str]:
    return [column] if width == 1 else [f"{column}_{i}" for i in range(width)]
