"""A bundle's folder, opened in this process."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from train.bundle.checks import check_recommender
from train.bundle.content import read_recommender, read_towers
from train.bundle.manifest import BundleError, read_manifest, verify_files
from train.recommender.recommender import Recommender

if TYPE_CHECKING:
    from train.towers.model import TwoTowerModel


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        recommender: as it was stored.
        manifest: format version, version, created, name, config, libraries, data, metrics, index,
            reranker (`name`, `earned`, ...), `sources` (`name`, `quota`, `shape`), `gate`
            (`served`, and the ladder that it was chosen from), `item_columns` (kinds), `added`
            (elements at the end of vectors that scores add to products) and the sha256 of every
            file.
        folder: where it lies; the tower's files are read from here when they are first needed.
    """

    recommender: Recommender
    manifest: Mapping[str, Any]
    folder: Path

    @property
    def version(self) -> str:
        """The time it was made and a hash of its content."""
        return str(self.manifest["version"])

    def model(self) -> "TwoTowerModel":
        """Return the towers, ready to encode.

        Raises:
            ValueError: the bundle has none.
        """
        return read_towers(self.folder, self.manifest, self.recommender)


def open_untried(folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    """Open a bundle's folder in this process, whatever its libraries make of its files.

    Args:
        folder: of the bundle.
        manifest: its own, as `verified` returns it.

    Raises:
        BundleError: its files do not fit each other, or are none.
    """
    try:
        recommender = read_recommender(folder, manifest)
        check_recommender(recommender)
    except (KeyError, ValueError, pa.ArrowInvalid) as error:
        raise BundleError(
            f"bundle {folder} is damaged: {error}; copy it again or write it anew"
        ) from error
    return Bundle(recommender, manifest, folder)


def verified(folder: Path) -> dict[str, Any]:
    """Return the manifest of a bundle, all its files checked against their checksums."""
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    return manifest
