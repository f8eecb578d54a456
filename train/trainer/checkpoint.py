"""Checkpoints of training, typed: written and read here alone.

`checkpoint.pt` holds the state after the newest epoch, from which a training resumes; `PHASE.pt`
the state kept after a phase completes, with the weights that its towers are used with.
"""

import io
import logging
from collections.abc import Mapping
from typing import Any, NotRequired, Protocol, TypedDict

import torch
from torch import Tensor, nn

from cluster import storage

logger = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.pt"

Curve = list[dict[str, Any]]
"""A row an epoch: `epoch`, `seconds`, and `loss` and `ndcg` where there are any."""


class Best(TypedDict):
    """The epoch that is kept so far, from 1; its validation NDCG@10, and its weights on the CPU."""

    epoch: int
    ndcg: float | None
    weights: dict[str, Tensor]


class Within(TypedDict):
    """How far an epoch is: steps done, the sum of their losses over all workers, and seconds."""

    steps: int
    loss: float
    seconds: float


class State(TypedDict):
    """State of a training after an epoch, or within one.

    Attributes:
        epoch: epochs done.
        best: the epoch to keep of these; none before the first is done.
        curve: of all epochs done.
        model: weights at that moment.
        optimizer: its state; towers that are fitted in closed form have none.
        within: of the next epoch, where this is a state within it.
        phase: that it is of; `train` itself knows of no phases.
        job: the identity of its job; towers of another one are not taken for its own.
    """

    epoch: int
    best: NotRequired[Best]
    curve: Curve
    model: dict[str, Tensor]
    optimizer: NotRequired[dict[str, Any]]
    within: NotRequired[Within]
    phase: NotRequired[str]
    job: NotRequired[str]


class PhaseResult(TypedDict):
    """State kept after a phase completes: no training resumes from it."""

    epoch: int
    best: Best
    curve: Curve
    job: NotRequired[str]


class Stateful(Protocol):
    """What a checkpoint's state is loaded into beside the model."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


def restore(state: State, model: nn.Module, optimizer: Stateful) -> None:
    """Load model and optimizer from a checkpoint's state."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])


def write_state(folder: str, state: State) -> None:
    """Write the state to `checkpoint.pt` in a folder, by path or URI."""
    storage.write_bytes(storage.join(folder, CHECKPOINT), checkpoint_bytes(state))


def read_state(folder: str) -> State | None:
    """Read the state in a folder, by path or URI; None without one."""
    file = storage.join(folder, CHECKPOINT)
    if not storage.exists(file):
        return None
    state: State = read_checkpoint(storage.read_bytes(file))
    return state


def write_phase(place: str, phase: str, state: State) -> PhaseResult:
    """Write the result of a phase, from the state after its last epoch, and return it."""
    result = phase_result(state)
    storage.write_bytes(_phase_file(place, phase), checkpoint_bytes(result))
    return result


def phase_result(state: State) -> PhaseResult:
    """Return the result of a phase, from the state after its last epoch."""
    result: PhaseResult = {"epoch": state["epoch"], "best": state["best"], "curve": state["curve"]}
    if "job" in state:
        result["job"] = state["job"]
    return result


def read_phases(jobs: Mapping[str, str], place: str) -> dict[str, PhaseResult]:
    """Read the results of those phases that are complete.

    Args:
        jobs: the identity of the job of each phase; results of another job are left where they are.
        place: folder or URI of the results.
    """
    found = {}
    for phase, job in jobs.items():
        file = _phase_file(place, phase)
        if not storage.exists(file):
            continue
        result: PhaseResult = read_checkpoint(storage.read_bytes(file))
        if is_of(result, job):
            found[phase] = result
        else:
            logger.warning("%s has towers of other settings or data: they are trained anew", file)
    return found


def is_of(state: State | PhaseResult, job: str) -> bool:
    """Whether a state is of a job; those of an earlier version do not say."""
    return state.get("job", job) == job


def _phase_file(place: str, phase: str) -> str:
    return storage.join(place, f"{phase}.pt")


def checkpoint_bytes(state: Mapping[str, Any]) -> bytes:
    """Return the content of a file with any state of tensors and plain values."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def read_checkpoint(content: bytes) -> Any:
    """Return the state in a file's content; only tensors and plain values are accepted."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
