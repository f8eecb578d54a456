"""Batches of examples, and the history that describes the user of each, all by index.

An example is an interaction; or a user with all interactions; or, for towers that learn from every
item of a history, a window of consecutive interactions of a user, by the index of the last of them.

Every worker knows the order of all examples, so each draws the whole step of W workers with B each,
as a single worker with W * B would, and trains on its part of it, rows `[rB, (r + 1)B)`.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from train.ops.seeds import mix, random_integers
from train.ops.tensors import rows_and_places

Unit = Literal["interactions", "users"]
Context = Literal["all", "before"]


@dataclass(frozen=True)
class Examples:
    """The training interactions on a device, ordered by user and time.

    Attributes:
        users: int32 `[N]`.
        items: int32 `[N]`.
        starts: position of the first interaction of each user, int64 `[U + 1]`.
        weights: of the loss, 1 on average, float32 `[N]`; None where all are 1.
    """

    users: Tensor
    items: Tensor
    starts: Tensor
    weights: Tensor | None

    def __len__(self) -> int:
        return len(self.users)

    def everything(self) -> Tensor:
        """Index of every interaction, `[N]`."""
        return torch.arange(len(self), device=self.users.device)

    def known_users(self) -> Tensor:
        """Users with interactions, int64."""
        return self.starts.diff().nonzero().flatten()


@dataclass(frozen=True)
class Sampling:
    """How a worker makes its part of a step out of examples.

    Attributes:
        rank: of this worker.
        workers: W.
        seed: of the epoch.
        unit: of examples.
        context: which interactions describe the user of an interaction, `train.context`.
        context_length: how many of them are drawn.
    """

    rank: int = 0
    workers: int = 1
    seed: int = 0
    unit: Unit = "interactions"
    context: Context = "all"
    context_length: int = 0


@dataclass(frozen=True)
class Batch:
    """One worker's part of a step.

    Attributes:
        users: `[B]`.
        history: items that describe each user, `[B, h]`, -1 padded.
        global_items: the positives of all workers, in order of rank, `[W B]`; or one for each item
            of the histories of all workers, or of their users, row by row.
        local: the slice of these that is this worker's.
        loss_scale: factor of the mean loss over this worker's positives, N W / (positives of all):
            the average over the workers is then the mean over all positives.
        weights: of this worker's positives, or None.
        rows: index into `users` of each positive's user, ascending `[N]`, where a user has several
            positives.
    """

    users: Tensor
    history: Tensor
    global_items: Tensor
    local: slice
    loss_scale: float = 1.0
    weights: Tensor | None = None
    rows: Tensor | None = None

    @property
    def items(self) -> Tensor:
        """This worker's positives, `[B]`, or `[N]` of N items in the histories or of the users."""
        return self.global_items[self.local]

    @property
    def positive_users(self) -> Tensor:
        """The user of each positive."""
        if self.rows is not None:
            return self.users[self.rows]
        if len(self.users) == len(self.items):
            return self.users
        return self.users.repeat_interleave((self.history >= 0).sum(1))


def windows(data: Examples, length: int) -> Tensor:
    """Return the last interaction of each window of `length`, int64 `[E]`.

    Windows are cut from a user's newest interaction back, do not overlap, and cover all but the
    first interaction of each user, which nothing precedes.
    """
    counts = data.starts.diff() - 1
    pieces = ((counts + length - 1) // length).clamp(min=0)
    user, within = rows_and_places(pieces)
    return data.starts[1:][user] - 1 - within * length


def interaction_batch(data: Examples, step: Tensor, sampling: Sampling, length: int) -> Batch:
    """Return a worker's part of a step's interactions `[W B]`, each with a history of `length`.

    With a length of 0 it has one slot all the same, which no layer reads.
    """
    index, length = step.chunk(sampling.workers)[sampling.rank], max(1, length)
    if sampling.context == "before":
        history = history_before(data, index, length)
    else:
        history = history_sample(data, index, length, sampling.seed)
    return Batch(
        users=data.users[index].long(),
        history=history,
        global_items=data.items[step].long(),
        local=slice(sampling.rank * len(index), (sampling.rank + 1) * len(index)),
        weights=None if data.weights is None else data.weights[index],
    )


def window_batch(data: Examples, step: Tensor, sampling: Sampling, length: int) -> Batch:
    """Return a worker's part of a step's windows `[W B]`: each item of one predicts the next."""
    rank, workers = sampling.rank, sampling.workers
    history = history_before(data, step, length)
    place = step[:, None] - torch.arange(length - 1, -1, -1, device=step.device)
    present = history >= 0
    counts = present.sum(1).view(workers, -1).sum(1).tolist()
    first, size = sum(counts[:rank]), counts[rank]
    local = slice(first, first + size)
    places = place[present]
    index = step.chunk(workers)[rank]
    return Batch(
        users=data.users[index].long(),
        history=history.chunk(workers)[rank],
        global_items=data.items[places].long(),
        local=local,
        loss_scale=size * workers / len(places),
        weights=None if data.weights is None else data.weights[places[local]],
    )


def user_batch(data: Examples, step: Tensor, sampling: Sampling, length: int) -> Batch:
    """Return a worker's part of a step's users `[W B]`: all positives of a user share its scores.

    Without a history all the user's interactions are positives. With one a random half of them is,
    and the history is drawn from the other half, as autoencoders for implicit feedback learn (Wu et
    al., WSDM 2016; Liang et al., WWW 2018). One of them always is a positive.

    Args:
        data: the interactions.
        step: users of all workers, each with an interaction.
        sampling: which part; a user's positives follow from its seed, in any batch.
        length: of the history; 0 for none.
    """
    rank, workers, seed = sampling.rank, sampling.workers, sampling.seed
    size, users = len(step) // workers, step.chunk(workers)[rank]
    row, place = _interactions(data, step)
    history = torch.full_like(users, -1)[:, None]
    if length:
        hidden = _is_hidden(data, step[row], place, seed)
        row, place = row[hidden], place[hidden]
        history = _visible_sample(data, users, length, seed)
    counts = torch.bincount(row // size, minlength=workers).tolist()
    local = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    return Batch(
        users=users,
        history=history,
        global_items=data.items[place].long(),
        local=local,
        loss_scale=counts[rank] * workers / len(place),
        weights=None if data.weights is None else data.weights[place[local]],
        rows=row[local] - rank * size,
    )


def _interactions(data: Examples, users: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row in `users` and the index of all their interactions, row by row."""
    row, within = rows_and_places(data.starts[users + 1] - data.starts[users])
    return row, data.starts[users][row] + within


def _is_hidden(data: Examples, users: Tensor, place: Tensor, seed: int) -> Tensor:
    """Return whether an interaction is a positive, hidden from the history, in the given shape."""
    first, count = data.starts[users], data.starts[users + 1] - data.starts[users]
    always = first + random_integers(mix(users, 0), seed) % count
    return (random_integers(mix(place, 0), seed, stream=1) % 2 == 0) | (place == always)


def _visible_sample(data: Examples, users: Tensor, length: int, seed: int) -> Tensor:
    """Draw `length` items of each user that are not hidden, `[B, h]`, -1 padded."""
    first, count = data.starts[users], data.starts[users + 1] - data.starts[users]
    slot = torch.arange(length, device=users.device)
    drawn = random_integers(mix(mix(users[:, None], slot), 0), seed, stream=2)
    place = first[:, None] + drawn % count[:, None]
    hidden = _is_hidden(data, users[:, None].expand_as(place), place, seed)
    return torch.where(hidden, -1, data.items[place]).long()


def history_before(data: Examples, index: Tensor, length: int) -> Tensor:
    """Return the newest `length` items of the user before each example, `[B, h]`, -1 padded."""
    place = index[:, None] - torch.arange(length, 0, -1, device=index.device)
    present = place >= data.starts[data.users[index].long()][:, None]
    return torch.where(present, data.items[place.clamp(min=0)], -1).long()


def history_sample(data: Examples, index: Tensor, length: int, seed: int) -> Tensor:
    """Draw `length` of the user's items with replacement, without the example's: `[B, h]`.

    The draws come from a hash of seed, example and slot, so they are the same in any batch. One of
    the example's item is -1.
    """
    users = data.users[index].long()
    first, count = data.starts[users], data.starts[users + 1] - data.starts[users]
    slot = torch.arange(length, device=index.device)
    drawn = random_integers(mix(index[:, None], slot), seed) % count[:, None]
    items = data.items[first[:, None] + drawn]
    return torch.where(items == data.items[index][:, None], -1, items).long()
