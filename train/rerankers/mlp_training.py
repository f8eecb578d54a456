"""Fitting an MLPReranker in torch: a softmax over each request's candidates."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from train.core.ragged import Array
from train.ops.dropout import Dropout
from train.rerankers.candidate_rows import log_importance
from train.rerankers.mlp import MLPReranker
from train.rerankers.scaling import inverse_deviation, standardized
from train.rerankers.training_set import TrainingSet


class FitSettings(Protocol):
    """Settings that fitting reads; `MLP` has them."""

    @property
    def hidden(self) -> tuple[int, int]:
        """Widths of the hidden layers."""

    @property
    def epochs(self) -> int:
        """Passes over the requests, at most."""

    @property
    def batch(self) -> int:
        """Requests a step."""

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


class Groups:
    """A training set's rows in groups, one a request; batches of groups are padded."""

    def __init__(self, training: TrainingSet, mean: Array, scale: Array) -> None:
        rows = training.rows
        _, starts, lengths = np.unique(rows.query, return_index=True, return_counts=True)
        place = np.arange(int(lengths.max()))
        mask = place < lengths[:, None]
        self.position = torch.from_numpy(np.where(mask, starts[:, None] + place, 0))
        self.mask = torch.from_numpy(mask)
        features = standardized(rows.features, mean, scale)
        self.features = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        self.labels = torch.from_numpy(training.labels.astype(np.float32))
        self.users = torch.from_numpy(rows.user_vectors[rows.query[starts]])
        self.items = torch.from_numpy(training.item_vectors)
        self.item = torch.from_numpy(rows.item.astype(np.int64))
        self.log_importance = torch.from_numpy(log_importance(rows))

    def __len__(self) -> int:
        return len(self.position)

    def loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        """Return the mean `listwise_cross_entropy` of groups by their indices, int64 `[Q]`."""
        inputs, labels, mask = self.padded(batch)
        scores = network(inputs) + self.log_importance[self.position[batch]]
        return listwise_cross_entropy(scores, labels, mask)

    def padded(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs `[Q, C, F + 2d]`, labels and the mask of padding, both `[Q, C]`."""
        position, mask = self.position[batch], self.mask[batch]
        users = self.users[batch][:, None].expand(-1, position.shape[1], -1)
        parts = [self.features[position], users, self.items[self.item[position]]]
        return torch.cat(parts, dim=-1), self.labels[position] * mask, mask


def listwise_cross_entropy(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return the mean cross-entropy of a softmax over each group, positives weighted equally.

    It is the loss of ListNet (Cao et al., ICML 2007), of labels in place of their exponentials.

    Args:
        scores: `[Q, C]`.
        labels: at least 0, `[Q, C]`; groups without a positive count nothing.
        mask: False for padding, bool `[Q, C]`.
    """
    log_softmax = scores.masked_fill(~mask, -1e9).log_softmax(dim=1)
    share = labels / labels.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return -(share * log_softmax).sum(dim=1).mean()


def fit(
    settings: FitSettings,
    training: TrainingSet,
    evaluation: TrainingSet,
    seed: int,
    threads: int,
) -> MLPReranker:
    """Fit with AdamW and keep the weights of the epoch with the lowest evaluation loss."""
    features = training.rows.features
    # In float64: the mean of a float32 column that never changes is off by more than rounding.
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = inverse_deviation(features).astype(np.float32)
    train, other = (Groups(part, mean, scale) for part in (training, evaluation))
    width = training.item_vectors.shape[1]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(len(mean), width, settings.hidden, settings.dropout)
            _descend(network, train, other, settings)
    finally:
        torch.set_num_threads(before)
    return MLPReranker.of(_weights(network, mean, scale), training.item_vectors)


def _descend(network: Network, train: Groups, other: Groups, settings: FitSettings) -> None:
    """Train until the evaluation loss has not fallen for `patience` epochs; restore the best."""
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


def _epoch(network: Network, optimizer: torch.optim.Optimizer, groups: Groups, size: int) -> None:
    network.train()
    for batch in torch.randperm(len(groups)).split(size):
        optimizer.zero_grad()
        groups.loss(network, batch).backward()
        optimizer.step()


@torch.no_grad()
def _evaluate(network: Network, groups: Groups, size: int) -> float:
    network.eval()
    total = 0.0
    for batch in torch.arange(len(groups)).split(size):
        total += float(groups.loss(network, batch)) * len(batch)
    return total / len(groups)


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
