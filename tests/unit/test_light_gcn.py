"""LightGCN against its formula in dense matrices; users of the graph against their histories."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training import events, histories, plain_inputs
from train.core.ragged import Ragged
from train.core.schema import Interactions
from train.towers.encode import encode_catalogue, encode_users
from train.towers.light_gcn import Graph, LightGCN, LightGCNModel

USERS, ITEMS, WIDTH = 4, 5, 3
# The last user and the last item have no interactions; one interaction occurs twice.
PAIRS = np.array([(0, 0), (0, 1), (0, 1), (1, 1), (1, 2), (2, 0), (2, 3)])


def interactions() -> Interactions:
    return events(*PAIRS.T.astype(np.int32))


def a_model(layers: int, score: str = "dot") -> LightGCNModel:
    torch.manual_seed(0)
    settings = LightGCN.model_validate({"width": WIDTH, "layers": layers, "score": score})
    model = settings.build(plain_inputs(USERS, ITEMS))
    settings.prepare(model, interactions())
    assert isinstance(model, LightGCNModel)
    return model


def averages(users: Tensor, items: Tensor, layers: int) -> tuple[Tensor, Tensor]:
    """Return the mean layers as the paper has them: powers of one matrix over users and items."""
    taken = torch.zeros(USERS + 1, ITEMS + 1)
    for user, item in PAIRS:
        taken[user, item] += 1
    both = torch.zeros(USERS + ITEMS + 2, USERS + ITEMS + 2)
    both[: USERS + 1, USERS + 1 :], both[USERS + 1 :, : USERS + 1] = taken, taken.T
    root = both.sum(1).clamp(min=1).sqrt()
    both = both / root / root[:, None]
    layer = torch.cat([users, items])
    total = layer
    for _ in range(layers):
        layer = both @ layer
        total = total + layer
    mean = total / (layers + 1)
    return mean[: USERS + 1], mean[USERS + 1 :]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_vectors_and_gradients_are_those_of_the_formula(layers: int) -> None:
    model = a_model(layers)
    users, items = torch.arange(USERS), torch.arange(ITEMS)
    factor = torch.randn(USERS, ITEMS, generator=torch.Generator().manual_seed(1))
    parameters = [part.id.weight for part in (model.user_input, model.item_input) if part.id]
    means = averages(parameters[0], parameters[1], layers)
    expected = means[0][:-1], means[1][:-1]
    found = model(users, torch.full((USERS, 1), -1), items)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    gradients = [
        torch.autograd.grad(((one @ other.T) * factor).sum(), parameters)
        for one, other in (found, expected)
    ]
    for gradient, exact in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, exact)


@pytest.mark.parametrize("score", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("layers", [1, 3])
def test_users_have_the_vectors_of_the_graph_by_their_histories(layers: int, score: str) -> None:
    model = a_model(layers, score)
    known = interactions()
    users = torch.arange(USERS)
    graph = model(users, torch.full((USERS, 1), -1), torch.arange(ITEMS))
    rows = Ragged.from_pairs(known.user, known.item, USERS)
    np.testing.assert_allclose(
        encode_users(model, np.arange(USERS), rows), graph[0].detach(), atol=1e-6
    )
    np.testing.assert_allclose(encode_catalogue(model), graph[1].detach(), atol=1e-6)


def test_whoever_is_new_is_a_user_without_an_id() -> None:
    model = a_model(2)
    assert model.user_input.id is not None
    with torch.no_grad():
        model.user_input.id.weight[1] = 0
    known, new = encode_users(model, np.array([1, -1]), histories([[1, 2], [1, 2]]))
    np.testing.assert_array_equal(known, new)
    assert np.abs(new).max() > 0.01


def test_the_graph_is_not_needed_after_training() -> None:
    model, settings = a_model(2), LightGCN(width=WIDTH)
    items = encode_catalogue(model)
    again = settings.build(plain_inputs(USERS, ITEMS))
    assert np.abs(encode_catalogue(again) - items).max() > 0.01
    again.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(encode_catalogue(again), items)


def test_a_graph_may_have_no_edges() -> None:
    none = np.empty(0, np.int32)
    graph = Graph.of(events(none, none), 2, 3, torch.device("cpu"))
    users, items = torch.ones(3, 2), torch.ones(4, 2)
    assert graph.propagated(users, items, 2)[0].tolist() == users.tolist()


def test_a_dropout_that_would_be_ignored_is_refused() -> None:
    with pytest.raises(ValueError, match="dropout: light_gcn has none; expected 0"):
        LightGCN(dropout=0.2)
