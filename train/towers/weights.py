"""Weights of towers as safetensors, and the head of a wrapped model."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import nn

from train.data.snapshot import TowerInputs
from train.towers.base import Tower
from train.towers.layers import PairLayers
from train.towers.model import TwoTowerModel


def head_of(model: nn.Module) -> PairLayers | None:
    """Return the head over pairs of a model, also where DDP wraps it; None where it has none."""
    head: PairLayers | None = getattr(getattr(model, "module", model), "head", None)
    return head


def state_bytes(model: TwoTowerModel) -> bytes:
    """Return the weights in safetensors format."""
    return save({name: value.contiguous() for name, value in model.state_dict().items()})


def load(settings: Tower, inputs: TowerInputs, path: Path) -> TwoTowerModel:
    """Build the module and fill it with the weights of a safetensors file."""
    model = settings.build(inputs)
    weights: dict[str, Any] = load_file(path)
    model.load_state_dict(weights)
    model.eval()
    return model
