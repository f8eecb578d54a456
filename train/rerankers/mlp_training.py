"""Fitting an MLPReranker in torch: a softmax over each query's candidates."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from train.core.ragged import Array
from train.ops.dropout import Dropout
from train.rerankers.candidate_rows import CandidateRows, log_importance
from train.rerankers.mlp import MLPReranker, standardized


class FitSettings(Protocol):
    """What fitting reads of the settings."""

    @property
    def hidden(self) -> tuple[int, int]:
        """Widths of the hidden layers."""

    @property
    def epochs(self) -> int:
        """Passes over the queries, at most."""

    @property
    def batch(self) -> int:
        """Queries a step."""

    @property
    def learning_rate(self) -> float:
        """Of AdamW."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""

    @property
    def dropout(self) -> float:
        """Share of hidden units left out in fitting."""

    @property
    def patience(self) -> int:
        """Epochs without a lower evaluation loss before fitting stops."""


class Network(nn.Module):
    """The layers, with the first one split as it is scored."""

    def __init__(self, features: int, width: int, hidden: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(features + 2 * width, hidden[0])
        self.second = nn.Linear(hidden[0], hidden[1])
        self.third = nn.Linear(hidden[1], 1)
        self.dropout = Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return scores `[...]` of inputs `[..., F + 2d]`."""
        hidden = self.dropout(torch.relu(self.first(inputs)))
        hidden = self.dropout(torch.relu(self.second(hidden)))
        scores: Tensor = self.third(hidden).squeeze(-1)
        return scores


class Rows:
    """Padded groups over flat rows: what a batch of queries gathers."""

    def __init__(
        self, pairs: CandidateRows, labels: Array, item_vectors: Array, mean: Array, scale: Array
    ) -> None:
        _, starts, lengths = np.unique(pairs.query, return_index=True, return_counts=True)
        place = np.arange(int(lengths.max()))
        inside = place < lengths[:, None]
        self.position = torch.from_numpy(np.where(inside, starts[:, None] + place, 0))
        self.inside = torch.from_numpy(inside)
        features = standardized(pairs.features, mean, scale)
        self.features = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        self.labels = torch.from_numpy(labels.astype(np.float32))
        self.users = torch.from_numpy(pairs.user_vectors[pairs.query[starts]])
        self.items = torch.from_numpy(item_vectors)
        self.item = torch.from_numpy(pairs.item.astype(np.int64))
        self.drawn = torch.from_numpy(log_importance(pairs))

    def __len__(self) -> int:
        return len(self.position)

    def loss(self, network: nn.Module, groups: Tensor) -> Tensor:
        """Return the mean `listwise_cross_entropy` of these queries, int64 `[Q]`."""
        inputs, labels, inside = self.batch(groups)
        return listwise_cross_entropy(
            network(inputs) + self.drawn[self.position[groups]], labels, inside
        )

    def batch(self, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs `[Q, C, F + 2d]`, labels and the mask of real rows, both `[Q, C]`."""
        position, inside = self.position[groups], self.inside[groups]
        users = self.users[groups][:, None].expand(-1, position.shape[1], -1)
        parts = [self.features[position], users, self.items[self.item[position]]]
        return torch.cat(parts, dim=-1), self.labels[position] * inside, inside


def listwise_cross_entropy(scores: Tensor, labels: Tensor, inside: Tensor) -> Tensor:
    """Return the mean cross-entropy of a softmax over each group, positives weighted equally.

    Args:
        scores: `[Q, C]`.
        labels: at least 0, `[Q, C]`; groups without a positive count nothing.
        inside: bool `[Q, C]`.
    """
    log_softmax = scores.masked_fill(~inside, -1e9).log_softmax(dim=1)
    share = labels / labels.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return -(share * log_softmax).sum(dim=1).mean()


def fit(
    pairs: CandidateRows,
    labels: Array,
    item_vectors: Array,
    settings: FitSettings,
    seed: int,
    threads: int,
    evaluation: tuple[CandidateRows, Array],
) -> MLPReranker:
    """Fit with AdamW and keep the weights of the epoch with the lowest evaluation loss."""
    # In float64: the mean of a float32 column that never changes is off by more than the limit.
    mean = pairs.features.mean(axis=0, dtype=np.float64)
    scale = pairs.features.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 1e-6, 1 / np.maximum(scale, 1e-6), 0)
    mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    train = Rows(pairs, labels, item_vectors, mean, scale)
    other = Rows(*evaluation, item_vectors, mean, scale)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _descend(train, other, len(mean), item_vectors.shape[1], settings)
    finally:
        torch.set_num_threads(before)
    return MLPReranker.of(_weights(network, mean, scale), item_vectors)


def _descend(train: Rows, other: Rows, features: int, width: int, settings: FitSettings) -> Network:
    network = Network(features, width, settings.hidden, settings.dropout)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    best, lowest, waited = _copy(network), _evaluate(network, other, settings.batch), 0
    for _ in range(settings.epochs):
        _epoch(network, optimizer, train, settings.batch)
        loss = _evaluate(network, other, settings.batch)
        waited = 0 if loss < lowest else waited + 1
        if loss < lowest:
            best, lowest = _copy(network), loss
        if waited >= settings.patience:
            break
    network.load_state_dict(best)
    return network


def _epoch(network: Network, optimizer: torch.optim.Optimizer, rows: Rows, size: int) -> None:
    network.train()
    for groups in torch.randperm(len(rows)).split(size):
        optimizer.zero_grad()
        rows.loss(network, groups).backward()
        optimizer.step()


@torch.no_grad()
def _evaluate(network: Network, rows: Rows, size: int) -> float:
    network.eval()
    total = 0.0
    for groups in torch.arange(len(rows)).split(size):
        total += float(rows.loss(network, groups)) * len(groups)
    return total / len(rows)


def _copy(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _weights(network: Network, mean: Array, scale: Array) -> dict[str, Array]:
    state = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    first = np.ascontiguousarray(state["first.weight"].T)
    features, width = len(mean), (len(first) - len(mean)) // 2
    return {
        "mean": mean,
        "scale": scale,
        "w_features": first[:features],
        "w_user": first[features : features + width],
        "w_item": first[features + width :],
        "b1": state["first.bias"],
        "w2": np.ascontiguousarray(state["second.weight"].T),
        "b2": state["second.bias"],
        "w3": state["third.weight"][0],
        "b3": state["third.bias"],
    }
