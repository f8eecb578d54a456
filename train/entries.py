"""The entries that a run may name, read from the source: nothing that takes long is imported."""

import ast
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WRAPPED: Any = {"subsequent_indent": " " * 12}
# Files with the dict of each kind of entry, or folders of presets.
ENTRIES = {
    "dataset": "train/datasets/__init__.py",
    "split": "train/data/splits/__init__.py",
    "tower": "train/towers/__init__.py",
    "loss": "train/losses/__init__.py",
    "source": "train/sources/entries.py",
    "reranker": "train/rerankers/__init__.py",
    "baseline": "train/baselines/__init__.py",
    "preset": "train/presets",
}


def names(place: str) -> list[str]:
    """Return the keys of the dict of entries in a file, or the presets in a folder."""
    path = ROOT / place
    if path.is_dir():
        return sorted(file.stem for file in path.glob("*.toml"))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    dicts = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    keys = [key for node in dicts for key in node.keys if isinstance(key, ast.Constant)]
    return [str(key.value) for key in keys]


def listed(places: Mapping[str, str]) -> str:
    """Return every kind of entry with its names, a paragraph each."""
    lines = []
    for kind, place in places.items():
        # A run may also have several rerankers compete, or none.
        found = [*(("auto", "none") if kind == "reranker" else ()), *names(place)]
        lines.append(fill(", ".join(found), 100, initial_indent=f"  {kind:<10}", **WRAPPED))
    return "\n".join(lines)
