"""Users encoded in numpy, as serving does, beside those that torch encodes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training import before
from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.data.snapshot import TowerInputs
from train.recommender.pooled_encoder import DEFAULTS, TOWER, PooledEncoder
from train.towers.encode import encode_users
from train.towers.model import TwoTowerModel
from train.towers.two_tower import TwoTower

TOWERS = st.fixed_dictionaries(
    {
        "width": st.sampled_from([3, 8]),
        "history": st.sampled_from([0, 1, 4]),
        "pooling": st.sampled_from(["mean", "attention"]),
        "hidden": st.sampled_from([0, 5]),
        "user_id": st.booleans(),
        "item_id": st.booleans(),
        "user_attributes": st.booleans(),
        "item_attributes": st.booleans(),
        "score": st.sampled_from(["dot", "cosine", "euclidean"]),
        "normalize": st.booleans(),
        "item_bias": st.booleans(),
    }
)


def trained(of: TwoTower, inputs: TowerInputs) -> tuple[TwoTowerModel, dict[str, Array]]:
    """Return towers with weights that gradient steps might have left, and the weights."""
    torch.manual_seed(0)
    model = of.build(inputs)
    with torch.no_grad():
        for weight in (*model.parameters(), model.rotation):
            weight.normal_()
    return model.eval(), {name: part.numpy() for name, part in model.state_dict().items()}


def beside(of: TwoTower, inputs: TowerInputs) -> tuple[TwoTowerModel, PooledEncoder]:
    model, weights = trained(of, inputs)
    return model, PooledEncoder(
        of.model_dump(), weights, inputs.user_features, inputs.item_features
    )


@given(TOWERS, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_vectors_are_those_of_torch(chosen: dict[str, Any], seed: int) -> None:
    inputs, rng = before().inputs, np.random.default_rng(seed)
    model, encoder = beside(TwoTower(**chosen), inputs)
    count, items = len(inputs.warm_users), len(inputs.warm_items)
    users = rng.integers(-1, count, 9)
    rows = [rng.integers(0, items, length) for length in rng.integers(0, 7, 9)]
    histories = Ragged.from_rows(rows)
    expected = encode_users(model, users, histories)
    found = encoder(users, histories)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    given_ones = inputs.user_features.take(rng.integers(-1, count, 9))
    expected = encode_users(model, users, histories, given_ones)
    np.testing.assert_allclose(
        encoder(users, histories, given_ones), expected, rtol=1e-4, atol=1e-4
    )


def test_users_without_any_attributes_are_encoded_too() -> None:
    inputs = before().inputs
    bare = replace(
        inputs,
        user_features=Features.empty(len(inputs.warm_users)),
        item_features=Features.empty(len(inputs.warm_items)),
    )
    model, encoder = beside(TwoTower(width=8), bare)
    users, histories = np.array([0, -1]), Ragged.from_rows([[1, 2], []])
    expected = encode_users(model, users, histories)
    np.testing.assert_allclose(encoder(users, histories), expected, rtol=1e-4, atol=1e-5)


def test_its_name_and_defaults_are_those_of_the_tower() -> None:
    tower = TwoTower()
    assert tower.name == TOWER
    assert {name: getattr(tower, name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(
    "name",
    [
        "user_input.id.weight",
        "item_input.id.weight",
        "user_input.attributes.embedding.weight",
        "user_input.attributes.linear.weight",
        "history.linear.weight",
        "rotation",
    ],
)
def test_weights_of_another_shape_are_named(name: str) -> None:
    inputs, of = before().inputs, TwoTower(width=8)
    _, weights = trained(of, inputs)
    weights[name] = weights[name][:-1]
    with pytest.raises(ValueError, match=rf"the tower's {name} is \(.*\), expected \("):
        PooledEncoder(of.model_dump(), weights, inputs.user_features, inputs.item_features)


@pytest.mark.parametrize("name", ["rotation", "history.linear.bias"])
def test_weights_that_are_missing_are_named(name: str) -> None:
    inputs, of = before().inputs, TwoTower(width=8)
    _, weights = trained(of, inputs)
    del weights[name]
    with pytest.raises(ValueError, match=f"the tower's {name} is None, expected"):
        PooledEncoder(of.model_dump(), weights, inputs.user_features, inputs.item_features)
