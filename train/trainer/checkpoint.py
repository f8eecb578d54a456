"""Checkpoints of training: written and read here alone."""

import io
from typing import Any

import torch
from torch import nn

CHECKPOINT = "checkpoint.pt"


def restore(state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load model and optimizer from a checkpoint's state; a fresh state changes nothing."""
    if "model" in state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])


def checkpoint_bytes(state: dict[str, Any]) -> bytes:
    """Return a checkpoint's content."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def read_checkpoint(content: bytes) -> dict[str, Any]:
    """Read a checkpoint's content; only tensors and plain values are accepted."""
    file = io.BytesIO(content)
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state
