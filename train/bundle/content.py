"""Content of a bundle: a recommender as files, and from files."""

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from train.bundle.checks import check_recommender
from train.bundle.files import (
    ragged_arrays,
    ragged_of,
    read_arrays,
    read_features,
    read_table,
    write_arrays,
    write_features,
    write_table,
)
from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.data.columns import Columns
from train.data.encoders import Encoder
from train.data.ids import IdMap
from train.data.linear_score import LinearModel
from train.data.repeats import Repeats
from train.data.snapshot import TowerInputs
from train.data.statistics import Statistics
from train.index.build import open_index
from train.recommender import pooled_encoder
from train.recommender.pooled_encoder import PooledEncoder
from train.recommender.recommender import BOTH_STAGES, CANDIDATES, STAGE_1, Encode, Recommender
from train.recommender.recommender import TOWER as TOWER_SOURCE
from train.rerankers import stored
from train.sources.base import Source
from train.sources.fitted import from_arrays

if TYPE_CHECKING:
    from train.towers.model import TwoTowerModel

TOWER = "tower.safetensors"
REPEATS = "repeats.safetensors"
HIDDEN = "hidden.safetensors"
COLUMNS = "item_columns.arrow"
LINEAR_SCORE = "linear_score.safetensors"
ENCODERS = "encoder.json"
# Of bundles before format 6.
ONE_SOURCE = ({"name": TOWER_SOURCE, "quota": None, "shape": TOWER_SOURCE},)


def write_recommender(draft: Path, recommender: Recommender) -> None:
    """Write a recommender's arrays, ids, index and reranker into a folder; not its towers.

    Raises:
        ValueError: its arrays do not fit each other.
    """
    check_recommender(recommender)
    _write_ids(draft, recommender)
    vectors = {"user": recommender.user_vectors, "item": recommender.item_vectors}
    write_arrays(draft / "vectors.safetensors", **vectors)
    write_arrays(draft / "histories.safetensors", **ragged_arrays(recommender.histories))
    write_arrays(draft / "statistics.safetensors", **recommender.statistics.arrays())
    if recommender.linear_score:
        write_arrays(draft / LINEAR_SCORE, **recommender.linear_score.arrays())
    if recommender.repeats is not None:
        write_arrays(draft / REPEATS, **recommender.repeats.arrays())
    if recommender.hidden is not None:
        write_arrays(draft / HIDDEN, **ragged_arrays(recommender.hidden))
    if recommender.columns:
        write_table(draft / COLUMNS, recommender.columns.values)
    write_features(draft, "user", recommender.user_features)
    write_features(draft, "item", recommender.item_features)
    for name, source in recommender.sources.items():
        write_arrays(draft / _source_file(name), **source.arrays())
    recommender.index.save(draft)
    if recommender.reranker is not None:
        recommender.reranker.save(draft)


def read_recommender(folder: Path, manifest: Mapping[str, Any]) -> Recommender:
    """Read what `write_recommender` wrote; towers are read when they first encode."""
    vectors = read_arrays(folder / "vectors.safetensors")
    items = read_table(folder / "items.arrow")
    statistics = read_arrays(folder / "statistics.safetensors")
    catalogue = items["catalogue"].to_numpy(zero_copy_only=False)
    reranker, users = manifest["reranker"].get("name"), read_features(folder, "user")
    recommender = Recommender(
        users=IdMap(read_table(folder / "users.arrow")["user_id"]),
        items=IdMap(items["item_id"]),
        titles=items.get("title"),
        user_vectors=vectors["user"],
        item_vectors=vectors["item"],
        catalogue=catalogue,
        histories=ragged_of(read_arrays(folder / "histories.safetensors")),
        statistics=Statistics.from_arrays(statistics),
        linear_score=_read_linear_score(folder, manifest["files"], statistics),
        user_features=users,
        item_features=read_features(folder, "item"),
        index=open_index(folder, vectors["item"], catalogue, manifest["index"]),
        reranker=stored.load(reranker, folder, vectors["item"]) if reranker else None,
        sources=_read_sources(folder, manifest),
        quotas={of["name"]: of["quota"] for of in manifest.get("sources", ONE_SOURCE)},
        served=_served(manifest),
        added=manifest.get("added", 0),
        candidates=int(manifest["config"].get("candidates", CANDIDATES)),
        seen=manifest["config"].get("seen", "exclude"),
        repeats=_read_repeats(folder, manifest["files"]),
        hidden=_read_hidden(folder, manifest["files"]),
        columns=_read_columns(folder, manifest),
        user_encoder=_read_user_encoder(folder, manifest["files"], users),
        towers_read_attributes=TOWER in manifest["files"]
        and manifest["config"].get("tower", {}).get("user_attributes", False),
        version=str(manifest["version"]),
    )
    if TOWER in manifest["files"]:
        return replace(recommender, encode=_encoder(folder, manifest, recommender))
    return recommender


def _encoder(folder: Path, manifest: Mapping[str, Any], known: Recommender) -> Encode:
    """Return what encodes users with the stored towers."""
    settings = manifest["config"]["tower"]
    if settings["name"] != pooled_encoder.TOWER:
        return _Encoder(folder, manifest, known)
    weights = read_arrays(folder / TOWER)
    return PooledEncoder(settings, weights, known.user_features, known.item_features)


@dataclass(frozen=True)
class _Encoder:
    """Encodes users with the stored towers, which are read, and torch loaded, at the first call."""

    folder: Path
    manifest: Mapping[str, Any]
    recommender: Recommender

    @cached_property
    def _loaded(self) -> "TwoTowerModel":
        return read_towers(self.folder, self.manifest, self.recommender)

    def __call__(self, user: Array, history: Ragged, attributes: Features | None = None) -> Array:
        from train.towers.encode import encode_users

        return encode_users(self._loaded, user, history, attributes)


def read_towers(folder: Path, manifest: Mapping[str, Any], known: Recommender) -> "TwoTowerModel":
    """Return the stored towers, ready to encode.

    Args:
        folder: of the bundle.
        manifest: its own.
        known: the attributes and warm ids that towers look up.

    Raises:
        ValueError: the bundle has none.
    """
    from train.towers import TOWERS
    from train.towers.weights import load

    if TOWER not in manifest["files"]:
        raise ValueError(f"bundle {folder} has no tower; train one: python -m train fit")
    settings = manifest["config"]["tower"]
    tower = TOWERS[settings["name"]].model_validate(settings)
    inputs = TowerInputs(
        known.user_features,
        known.item_features,
        warm_users=known.statistics.user_count > 0,
        warm_items=known.statistics.item_count > 0,
    )
    return load(tower, inputs, folder / TOWER)


def _read_repeats(folder: Path, files: Container[str]) -> Repeats | None:
    if REPEATS not in files:
        return None
    return Repeats.from_arrays(read_arrays(folder / REPEATS))


def _read_user_encoder(folder: Path, files: Container[str], of: Features) -> Encoder | None:
    if ENCODERS not in files:
        return None
    try:
        encoder = Encoder(json.loads((folder / ENCODERS).read_text(encoding="utf-8"))["users"])
        found = encoder.layout()
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder / ENCODERS} holds no encoder of users: {error!r}") from error
    expected = of.dense.shape[1], len(of.vocabulary)
    if found != expected:
        raise ValueError(
            f"{folder / ENCODERS} encodes users to {found[0]} columns and {found[1]} categories, "
            f"where the bundle has {expected[0]} and {expected[1]}"
        )
    return encoder


def _read_columns(folder: Path, manifest: Mapping[str, Any]) -> Columns:
    kinds = manifest.get("item_columns", {})
    return Columns(kinds, read_table(folder / COLUMNS)) if kinds else Columns()


def _read_hidden(folder: Path, files: Container[str]) -> Ragged | None:
    if HIDDEN not in files:
        return None
    return ragged_of(read_arrays(folder / HIDDEN))


def _read_linear_score(
    folder: Path, files: Container[str], statistics: Mapping[str, Array]
) -> LinearModel:
    """Read the linear score, if there is one; format 4 kept it among the statistics."""
    if LINEAR_SCORE in files:
        return LinearModel.from_arrays(read_arrays(folder / LINEAR_SCORE))
    if "linear_encode" in statistics:
        return LinearModel(*(statistics[f"linear_{n}"] for n in ("encode", "decode", "beyond")))
    return LinearModel.none()


def sources_record(recommender: Recommender) -> list[dict[str, Any]]:
    """Return what the manifest says of each source: `name`, `quota` and `shape`, in their order."""
    shapes = {name: source.shape for name, source in recommender.sources.items()}
    return [
        {"name": name, "quota": quota, "shape": shapes.get(name, TOWER_SOURCE)}
        for name, quota in recommender.quotas.items()
    ]


def _read_sources(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Source]:
    return {
        of["name"]: from_arrays(
            of["name"], of["shape"], read_arrays(folder / _source_file(of["name"]))
        )
        for of in manifest.get("sources", ONE_SOURCE)
        if of["name"] != TOWER_SOURCE
    }


def _source_file(name: str) -> str:
    return f"source_{name}.safetensors"


def _served(manifest: Mapping[str, Any]) -> str:
    """Return what is served; before format 6 the reranker's `earned` says so."""
    earned = manifest["reranker"].get("earned", True)
    return str(manifest.get("gate", {}).get("served", BOTH_STAGES if earned else STAGE_1))


def _write_ids(draft: Path, recommender: Recommender) -> None:
    write_table(draft / "users.arrow", {"user_id": recommender.users.ids})
    items = {"item_id": recommender.items.ids, "catalogue": pa.array(recommender.catalogue)}
    if recommender.titles is not None:
        items["title"] = recommender.titles
    write_table(draft / "items.arrow", items)
