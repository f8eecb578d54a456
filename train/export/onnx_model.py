"""A bundle's towers and scores as ONNX, checked against torch before they are handed out.

Indices are those of the bundle: the position of an id in `users.arrow` and `items.arrow`, which are
copied beside. Every file runs with onnxruntime alone.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cluster import storage
from train.bundle.bundle import Bundle
from train.towers.model import TwoTowerModel

# Relative and absolute: 100 times float32's rounding, for sums that onnxruntime orders otherwise.
TOLERANCE = 1e-5
# Rows of the example inputs: enough for unknown users, short histories and cold items among them.
SAMPLE = 64


class UserTower(nn.Module):
    """Users `[B]` (-1 unknown) and histories `[B, h]` (-1 before short ones) to `[B, d]`."""

    def __init__(self, model: TwoTowerModel) -> None:
        super().__init__()
        self.model = model
        # Rows are looked up in tables: ids and attributes are summed before the export.
        self.users: Tensor
        self.items: Tensor
        self.register_buffer("users", model.user_input.everything().detach())
        self.register_buffer("items", model.item_input.everything().detach())

    def forward(self, users: Tensor, history: Tensor) -> Tensor:
        """Encode users `[B]`, -1 for unknown, with histories `[B, h]`: `[B, d]`."""
        row = torch.where(users < 0, len(self.users) - 1, users)
        present = history >= 0
        return self.model.user_vectors(self.users[row], self.items, history.clamp(min=0), present)


class ItemTower(nn.Module):
    """Items `[M]` to `[M, d]`."""

    def __init__(self, model: TwoTowerModel) -> None:
        super().__init__()
        self.model = model
        self.items: Tensor
        self.register_buffer("items", model.item_input.everything().detach())

    def forward(self, items: Tensor) -> Tensor:
        """Encode items `[M]`: `[M, d]`."""
        return self.model.item_vectors(self.items[items])


class Score(nn.Module):
    """Known users `[B]` and items `[B]` to the score of each pair, `[B]`."""

    def __init__(self, bundle: Bundle, model: TwoTowerModel) -> None:
        super().__init__()
        self.head = model.head
        self.users: Tensor
        self.items: Tensor
        self.register_buffer("users", torch.tensor(bundle.recommender.user_vectors))
        self.register_buffer("items", torch.tensor(bundle.recommender.item_vectors))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Score pairs of known users `[B]` and items `[B]`: `[B]`."""
        user_vectors, item_vectors = self.users[users], self.items[items]
        if self.head is None:
            return (user_vectors * item_vectors).sum(1)
        scores: Tensor = self.head(user_vectors, item_vectors[:, None])[:, 0]
        return scores


def export_onnx(bundle: Bundle, folder: Path) -> dict[str, float]:
    """Write `user_tower.onnx`, `item_tower.onnx`, `score.onnx` and the ids of a bundle.

    Args:
        bundle: with a tower.
        folder: to create.

    Returns:
        The largest difference from torch of each file, measured in onnxruntime.

    Raises:
        FileExistsError: the folder is there.
        ValueError: the bundle has no tower, ONNX lacks an operator that it needs, or a file's
            results differ from torch's by more than 1e-5 of their size.
    """
    differences = {}
    with storage.new_folder(folder) as draft:
        for name, (module, inputs) in _modules(bundle).items():
            _write(module, inputs, draft / name)
            differences[name] = _difference(module, inputs, draft / name)
        for name in ("users.arrow", "items.arrow"):
            shutil.copy(bundle.folder / name, draft / name)
    return differences


def _modules(bundle: Bundle) -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
    """Return the exported modules, each with example inputs, by file name."""
    model = bundle.model()
    rng = np.random.default_rng(0)
    users = rng.integers(0, len(bundle.recommender.users), SAMPLE)
    items = torch.tensor(rng.integers(0, len(bundle.recommender.items), SAMPLE))
    length = max(1, model.settings.history)
    history = torch.tensor(bundle.recommender.histories.take(users).last(length)).long()
    known = torch.tensor(users)
    # Unknown users take a path of their own through the tower, so some are among the examples.
    some_unknown = torch.where(torch.arange(SAMPLE) % 8 == 0, -1, known)
    return {
        "user_tower.onnx": (UserTower(model), {"users": some_unknown, "history": history}),
        "item_tower.onnx": (ItemTower(model), {"items": items}),
        "score.onnx": (Score(bundle, model), {"users": known, "items": items}),
    }


def _write(module: nn.Module, inputs: dict[str, Tensor], path: Path) -> None:
    rows = {name: {0: torch.export.Dim.DYNAMIC} for name in inputs}
    try:
        program: Any = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=["score" if path.name == "score.onnx" else "vectors"],
            dynamic_shapes=rows,
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(_unsupported(path.name, error)) from error
    program.save(str(path))


def _unsupported(name: str, error: Exception) -> str:
    """Return a message that names the operator which ONNX lacks."""
    missing = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error))
    reason = f"ONNX has no operator for {missing[1]}" if missing else str(error).splitlines()[0]
    return f"{name} cannot be written with what this tower computes: {reason}"


@torch.no_grad()
def _difference(module: nn.Module, inputs: dict[str, Tensor], path: Path) -> float:
    """Return the largest difference from torch, for a whole batch and for a single row.

    Raises:
        ValueError: it exceeds the tolerance.
    """
    worst = 0.0
    for rows in (slice(None), slice(1)):
        part = {name: value[rows] for name, value in inputs.items()}
        expected = module(*part.values()).numpy()
        (actual,) = run_onnx(path, part)
        worst = max(worst, float(np.abs(actual - expected).max()))
        if not np.allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE):
            raise ValueError(
                f"{path.name} differs from torch by {worst:.2g}, more than {TOLERANCE:g}: nothing "
                "was written; please report this with the bundle's configuration"
            )
    return worst


def run_onnx(path: Path, inputs: dict[str, Tensor]) -> Sequence[Any]:
    """Return the outputs of an ONNX file in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    arrays = {name: value.numpy() for name, value in inputs.items()}
    outputs: Sequence[Any] = session.run(None, arrays)
    return outputs
