"""What every tower keeps; a new entry of `TOWERS` is tested by being there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import before, features, histories, make_job, plain_inputs, suiting
from train.core.ragged import Array, Ragged
from train.data.snapshot import TowerInputs
from train.index.pair_index import PairIndex
from train.towers import TOWERS
from train.towers.base import Tower
from train.towers.encode import align, encode_catalogue, encode_users, rank_by_model
from train.towers.history_transformer import HistoryTransformer
from train.towers.light_gcn import LightGCN
from train.towers.model import TwoTowerModel
from train.towers.pair_tower import PairTower
from train.towers.two_tower import TwoTower
from train.towers.weights import head_of, load, state_bytes
from train.trainer.job import Worker
from train.trainer.loop import train


@pytest.fixture(params=TOWERS)
def tower(request: pytest.FixtureRequest) -> Tower:
    return TOWERS[request.param].model_validate({"width": 8, "history": 5})


def with_ids(tower: Tower) -> Tower:
    return tower.model_copy(update={"user_id": True, "item_id": True, "item_attributes": True})


def build(tower: Tower, inputs: TowerInputs | None = None, seed: int = 0) -> TwoTowerModel:
    torch.manual_seed(seed)
    return tower.build(inputs or before().inputs)


def test_it_is_called_as_its_key(tower: Tower) -> None:
    assert TOWERS[tower.name] is type(tower)  # type: ignore[attr-defined]


def test_there_is_a_vector_for_every_user_and_item(tower: Tower) -> None:
    known, model = before(), build(tower)
    n_users, n_items = len(known.inputs.warm_users), len(known.inputs.warm_items)
    items = encode_catalogue(model, block=7)
    users = encode_users(model, np.arange(n_users), known.histories)
    assert (len(users), len(items)) == (n_users, n_items)
    # Some towers add elements of their own, as many to both sides.
    assert users.shape[1] == items.shape[1] >= 8
    assert users.dtype == items.dtype == np.float32
    assert np.isfinite(users).all() and np.isfinite(items).all()


VARIANTS = (
    *({"name": name} for name, tower in TOWERS.items() if not tower.closed_form()),
    {"name": "two_tower", "pooling": "attention", "hidden": 8},
    {"name": "dssm", "encoder": "transformer"},
    {"name": "dssm", "norm": "batch"},
    {"name": "history_transformer", "block": "ligr"},
    {"name": "matching_mlp", "factors": 4},
    {"name": "two_tower", "score": "cosine", "item_bias": True},
)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_it_learns_in_bfloat16_as_gpus_do(
    variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TOWERS[variant["name"]].model_validate({"width": 8, "history": 5} | variant)
    job = make_job(tower=settings, loss=suiting(settings), epochs=2)
    whole = train(job, Worker())["curve"]
    monkeypatch.setattr(Worker, "bfloat16", True)
    half = train(job, Worker())["curve"]
    assert [row["loss"] for row in half] != [row["loss"] for row in whole]
    for ours, exact in zip(half, whole, strict=True):
        assert ours["loss"] == pytest.approx(exact["loss"], rel=5e-3)


def test_forward_is_both_sides(tower: Tower) -> None:
    model = build(tower).eval()
    users, items = torch.tensor([3, 4]), torch.tensor([5, 5, 6])
    history = torch.tensor([[-1, 2, 5], [-1, -1, -1]])
    both = model(users, history, items)
    torch.testing.assert_close(both[0], model.encode_users(users, history))
    torch.testing.assert_close(both[1], model.encode_items(items))


def gradients(model: TwoTowerModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return those of the parameters that a loss reaches, by name."""
    names, weights = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return {name: part for name, part in zip(names, found, strict=True) if part is not None}


@pytest.mark.parametrize(
    "tower",
    [name for name, tower in TOWERS.items() if not tower.closed_form() and tower is not LightGCN],
    indirect=True,
)
def test_what_is_asked_for_again_and_again_is_learned_from_each_time(tower: Tower) -> None:
    model = build(tower.model_copy(update={"dropout": 0.0}))
    items = torch.tensor([5, 6, 5, 5, 9, 6])
    user, history = torch.tensor([0]), torch.tensor([[-1, 5, 6]])
    together = model(user, history, items)[1]
    # Three items, three vectors, far apart beside the rounding of equal ones at other places.
    assert torch.pdist(model.encode_items(items.unique())).min() > 1e-3
    one_by_one = torch.stack([model.encode_items(item[None])[0] for item in items])
    torch.testing.assert_close(together, one_by_one)
    weight = torch.arange(together.numel()).view_as(together) / together.numel()
    found, expected = (
        gradients(model, (weight * vectors).sum()) for vectors in (together, one_by_one)
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["dssm", "hybrid"])
def test_an_item_goes_through_its_layers_once_in_a_step(name: str) -> None:
    model, rows = build(TOWERS[name]()), []
    model.item_layers.register_forward_hook(lambda _layers, given, _made: rows.append(given[0]))
    items = torch.tensor([5, 6, 5, 5, 9, 6])
    vectors = model(torch.tensor([0]), torch.tensor([[5, 5, 7]]), items)[1]
    assert [len(given) for given in rows] == [3]
    assert torch.equal(vectors[0], vectors[2])


def test_a_user_alone_is_encoded_as_in_a_batch(tower: Tower) -> None:
    model = build(tower)
    users = np.array([0, -1, 7, 7, 9, -1, 20])
    rows = histories([[1, 2], [3], [], [4, 4, 4], [5, 6, 7, 8, 9, 10, 11], [], [12]])
    together = encode_users(model, users, rows, block=3)
    alone = [
        encode_users(model, users[i : i + 1], rows.take(np.array([i]))) for i in range(len(users))
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)


def test_an_unknown_user_is_the_history(tower: Tower) -> None:
    model = build(tower)
    unknown = np.array([-1, -1, -1])
    one, other, same = encode_users(model, unknown, histories([[1, 2], [30, 31], [1, 2]]))
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_allclose(one, same, atol=1e-6)


def test_attributes_that_come_with_a_request_are_read_as_stored_ones(tower: Tower) -> None:
    # Users without a table of ids differ in their attributes alone.
    inputs, rng = before().inputs, np.random.default_rng(0)
    count = len(inputs.warm_users)
    dense, codes = rng.normal(size=(count, 2)), [[at % 3] * (at % 2) for at in range(count)]
    users = features(dense, codes, ["a", "b", "c"])
    model = build(tower.model_copy(update={"user_id": False}), replace(inputs, user_features=users))
    asked, rows = np.array([3, 4, 7]), histories([[1, 2], [], [5]])
    stored = encode_users(model, asked, rows)
    as_given = encode_users(model, np.full(3, -1), rows, users.take(asked))
    np.testing.assert_allclose(as_given, stored, atol=1e-6)
    others = encode_users(model, asked, rows, users.take(np.array([8, 11, 12])))
    differ = np.abs(others - stored).max(axis=1) > 1e-6
    assert differ.tolist() == [model.settings.user_attributes] * 3


def test_only_the_newest_items_of_a_history_count(tower: Tower) -> None:
    model, user = build(tower), np.array([3, 3])
    long, cut = encode_users(model, user, histories([[9, 8, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]))
    np.testing.assert_allclose(long, cut, atol=1e-6)


def test_an_empty_history_is_a_vector_too(tower: Tower) -> None:
    model = build(with_ids(tower))
    vectors = encode_users(model, np.array([3, 4, -1]), Ragged.empty(3))
    assert np.isfinite(vectors).all()
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_nobody_is_no_vectors(tower: Tower) -> None:
    assert len(encode_users(build(tower), np.empty(0, np.int32), Ragged.empty(0))) == 0


def test_without_training_interactions_only_attributes_count(tower: Tower) -> None:
    """Two items that are alike but for their id: the same vector while both are cold."""
    known = before().inputs
    features = known.item_features
    twins = np.arange(len(known.warm_items))
    twins[1] = 0
    alike = type(features)(
        features.dense[twins],
        features.dense_names,
        features.categories.take(twins),
        features.vocabulary,
    )
    for warm in (False, True):
        mask = known.warm_items.copy()
        mask[:2], mask[2] = warm, False
        inputs = TowerInputs(known.user_features, alike, known.warm_users, mask)
        first, twin, third = encode_catalogue(build(with_ids(tower), inputs))[:3]
        assert (np.abs(first - twin).max() > 1e-3) == warm
        assert np.abs(first - third).max() > 1e-3


@pytest.mark.parametrize("history", [0, 5])
def test_it_works_on_ids_alone(tower: Tower, history: int) -> None:
    if not history and isinstance(tower, HistoryTransformer):
        with pytest.raises(ValueError, match="greater than or equal to 1"):
            type(tower).model_validate({"history": 0})
        return
    tower = with_ids(tower).model_copy(update={"history": history})
    model = build(tower, plain_inputs(20, 30))
    users = encode_users(model, np.arange(20), Ragged.empty(20))
    for vectors in (encode_catalogue(model), users):
        assert torch.pdist(torch.from_numpy(vectors)).min() > 1e-3
    assert (len(encode_catalogue(model)), len(users)) == (30, 20)


def test_the_same_seed_trains_the_same_weights(tower: Tower) -> None:
    first, again, other = (
        train(make_job(tower=tower, loss=suiting(tower), seed=seed, epochs=2), Worker())["model"]
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_saved_tower_gives_the_same_vectors(tower: Tower, tmp_path: Path) -> None:
    inputs = before().inputs
    model, path = build(tower), tmp_path / "tower.safetensors"
    align(model, encode_catalogue(build(tower, seed=1)), inputs.warm_items)
    path.write_bytes(state_bytes(model))
    again = load(tower, inputs, path)
    np.testing.assert_array_equal(encode_catalogue(again), encode_catalogue(model))
    users, rows = np.array([3, -1]), histories([[1], [2, 3]])
    np.testing.assert_array_equal(
        encode_users(again, users, rows), encode_users(model, users, rows)
    )


VECTORS = [name for name, tower in TOWERS.items() if not issubclass(tower, PairTower)]
PAIRS = [name for name, tower in TOWERS.items() if issubclass(tower, PairTower)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tower", VECTORS, indirect=True)
def test_aligning_turns_one_space_onto_another_and_keeps_every_score(
    tower: Tower, bias: bool
) -> None:
    inputs, users = before().inputs, np.arange(10)
    model = build(tower.model_copy(update={"item_bias": bias}))
    items, asking = encode_catalogue(model), encode_users(model, users, before().histories)
    width = tower.width - bias
    square = np.random.default_rng(0).normal(size=(width, width))
    turned = items.copy()
    turned[:, :width] = items[:, :width] @ np.linalg.qr(square)[0]
    align(model, turned, inputs.warm_items)
    np.testing.assert_allclose(encode_catalogue(model), turned, atol=1e-4)
    scores = encode_users(model, users, before().histories) @ encode_catalogue(model).T
    np.testing.assert_allclose(scores, asking @ items.T, atol=1e-3)


@pytest.mark.parametrize("score", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("tower", VECTORS, indirect=True)
def test_inner_products_are_the_score(tower: Tower, score: str) -> None:
    model = build(tower.model_copy(update={"score": score}))
    users = encode_users(model, np.arange(10), before().histories.take(np.arange(10)))
    items, width = encode_catalogue(model), tower.width
    if score != "euclidean":
        assert users.shape[1] == items.shape[1] == width
        if score == "cosine":
            norms = np.linalg.norm(np.concatenate([users, items]), axis=1)
            np.testing.assert_allclose(norms[norms > 0.5], 1, rtol=1e-5)
            assert (norms > 0.5).sum() >= len(items)
        return
    u, v = users[:, None, :width] / 2, items[None, :, :width]
    distances = np.square(u - v).sum(2)
    np.testing.assert_allclose(users @ items.T, -distances, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("score", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("tower", VECTORS, indirect=True)
def test_an_item_bias_is_added_to_the_score_whoever_asks(tower: Tower, score: str) -> None:
    model = build(tower.model_copy(update={"score": score, "item_bias": True}))
    users = encode_users(model, np.arange(10), before().histories.take(np.arange(10)))
    items, factors = encode_catalogue(model), tower.width - 1
    bias = users @ items.T - users[:, :-1] @ items[:, :-1].T
    np.testing.assert_allclose(bias, np.tile(items[:, -1], (10, 1)), atol=1e-4)
    assert np.abs(items[:, -1]).max() > 1e-3
    u, v = users[:, None, :factors], items[None, :, :factors]
    products, lengths = (u * v).sum(2), np.linalg.norm(v, axis=2)
    if score == "cosine":
        np.testing.assert_allclose(lengths[lengths > 0.5], 1, rtol=1e-5)
    expected = -np.square(u / 2 - v).sum(2) if score == "euclidean" else products
    np.testing.assert_allclose(users @ items.T - bias, expected, rtol=1e-3, atol=1e-3)


def test_a_bias_that_a_tower_cannot_have_is_refused(tower: Tower) -> None:
    kind = type(tower)
    if isinstance(tower, PairTower) or tower.closed_form():
        with pytest.raises(ValueError, match="item_bias: expected"):
            kind.model_validate({"item_bias": True})
    else:
        assert kind.model_validate({"item_bias": True}).scores == "dot"
        narrow = {"item_bias": True, "width": 1}
        with pytest.raises(ValueError, match=r"a width of 2 or more|heads"):
            kind.model_validate(narrow)


@pytest.mark.parametrize("tower", PAIRS, indirect=True)
def test_pairs_are_scored_and_ranked_as_they_are_trained(tower: Tower) -> None:
    """The layers over each pair, the halves computed once, and the search through all of them."""
    torch.manual_seed(0)
    model = train_briefly(tower)
    known, users = before(), np.arange(30)
    seen = known.histories.take(users)
    vectors, items = encode_users(model, users, seen), encode_catalogue(model)
    layers = head_of(model)
    assert layers is not None
    with torch.no_grad():
        expected = layers(torch.tensor(vectors), torch.tensor(items)).numpy()
    head = layers.trained()
    np.testing.assert_allclose(head.scores(vectors, items), expected, atol=1e-4)
    one, other = np.arange(30) % 7, np.arange(30) % 11
    alone = head.pair_scores(vectors[one], items[other])
    np.testing.assert_allclose(alone, expected[one, other], atol=1e-4)
    index = PairIndex.build(items, known.inputs.warm_items, head)
    found, scores = index.search(vectors, 7, seen)
    ranked = rank_by_model(model, vectors, items, known.inputs.warm_items, seen, 7)
    np.testing.assert_array_equal(found, ranked)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, found, axis=1), atol=1e-4)
    assert len(np.unique(expected.argmax(axis=1))) > 1


@pytest.mark.parametrize("rows", [1, 7, 100])
@pytest.mark.parametrize("tower", PAIRS, indirect=True)
def test_scores_do_not_depend_on_how_many_pairs_are_scored_at_a_time(
    tower: Tower, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.index.pair_index.ROWS", rows)
    model = build(tower)
    assert model.head is not None
    torch.nn.init.normal_(model.head.wide.bias)
    vectors, items = encode_users(model, *everyone()), encode_catalogue(model)
    expected = model.head(torch.tensor(vectors), torch.tensor(items)).detach().numpy()
    scores = model.head.trained().scores(vectors, items)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    for none in (vectors[:0], items), (vectors, items[:0]):
        assert model.head.trained().scores(*none).shape == tuple(map(len, none))


def everyone() -> tuple[Array, Ragged]:
    known = before()
    return np.arange(len(known.histories)), known.histories


def train_briefly(tower: Tower) -> TwoTowerModel:
    job = make_job(tower=tower, loss=suiting(tower), learning_rate=0.01)
    model = tower.build(job.inputs)
    model.load_state_dict(train(job, Worker())["model"])
    return model.eval()


@pytest.mark.parametrize("tower", PAIRS, indirect=True)
def test_a_saved_pair_index_finds_the_same(tower: Tower, tmp_path: Path) -> None:
    model, warm = build(tower), before().inputs.warm_items
    layers, items = head_of(model), encode_catalogue(model)
    assert layers is not None
    index, path = PairIndex.build(items, warm, layers.trained()), tmp_path / "head.safetensors"
    index.save(tmp_path)
    queries = encode_users(model, np.arange(9), before().histories.take(np.arange(9)))
    again = PairIndex.load(tmp_path, items, warm)
    for ours, theirs in zip(index.search(queries, 5), again.search(queries, 5), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="not a safetensors file"):
        PairIndex.load(tmp_path, items, warm)


def test_a_score_that_is_not_the_towers_is_refused(tower: Tower) -> None:
    other = "dot" if isinstance(tower, PairTower) else "pair"
    with pytest.raises(ValueError, match=f"score: expected .*, got '{other}'"):
        type(tower).model_validate({"score": other})


def test_its_name_for_scores_is_what_losses_read() -> None:
    assert TwoTower().scores == "dot"
    assert TwoTower(normalize=True).scores == TwoTower(score="cosine").scores == "cosine"
    assert TwoTower(normalize=True, score="euclidean").scores == "euclidean"
