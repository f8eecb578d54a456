"""What is trained is what answers rank by, whatever the scores are."""

from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.integration.test_fit import make_run
from train.bundle.bundle import Bundle, open_bundle
from train.core.ragged import Array
from train.fit import fit
from train.recommender.answers import recommend
from train.recommender.requests import Request

BY_SCORE: dict[str, tuple[dict[str, Any], str]] = {
    "dot": ({"name": "two_tower", "hidden": 8}, "in_batch_softmax"),
    "cosine": ({"name": "two_tower", "score": "cosine"}, "cosine_contrastive"),
    "euclidean": ({"name": "dssm"}, "triplet"),
    "of a graph": (
        {"name": "light_gcn", "score": "cosine", "item_bias": True},
        "sampled_softmax",
    ),
    "of states": ({"name": "history_transformer", "score": "euclidean"}, "full_softmax"),
    "of pairs": ({"name": "matching_mlp", "item_id": True}, "bce"),
    "of pairs with factors": ({"name": "matching_mlp", "item_id": True, "factors": 4}, "bpr"),
    "of both": ({"name": "ncf", "history": 10}, "bpr"),
}

# Towers trained twice for two epochs; how well they rank does not matter here, and they alone do.
SHORT: dict[str, Any] = {
    "sources": ["tower"],
    "train": {"workers": 0, "threads": 1, "batch_size": 256, "epochs": 2, "learning_rate": 0.02},
    "reranker": "none",
    "final_fit": "before_test",
    "evaluation": {"resamples": 100},
}


def score_matrix(bundle: Bundle, users: Array) -> Array:
    """Return the scores `[B, I]` by their definition, from the vectors in the bundle."""
    tower, items = bundle.manifest["config"]["tower"], bundle.recommender.item_vectors
    queries = bundle.recommender.user_vectors[users]
    if tower["score"] == "pair":
        factors = 4 if tower["name"] == "ncf" else tower["factors"]
        flat = queries[:, :factors] @ items[:, :factors].T
        first = np.maximum(queries[:, None, factors:] + items[:, factors:], 0)
        w = load_file(bundle.folder / "head.safetensors")
        second = np.maximum(first @ w["wide.weight"].T + w["wide.bias"], 0)
        return np.asarray(flat + second @ w["out.weight"][0])
    if tower["score"] == "euclidean":
        u, v = queries[:, None, :8] / 2, items[:, :8]
        return -np.asarray(np.square(u - v).sum(2))
    bias: Any = 0
    if tower["item_bias"]:
        queries, items, bias = queries[:, :7], items[:, :7], items[:, 7]
    if tower["score"] == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        items = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
    return np.asarray(queries @ items.T + bias)


@pytest.mark.parametrize("name", BY_SCORE)
def test_what_is_trained_is_what_answers_rank_by(name: str, tmp_path: Path) -> None:
    tower, loss = BY_SCORE[name]
    table = {"width": 8, "history": 10, **tower}
    bundle = open_bundle(fit(make_run(tmp_path, **SHORT, tower=table, loss=loss)))
    asked = np.arange(0, 300, 7)
    requests = [
        Request(user_id=user, explain=True) for user in bundle.recommender.users.external(asked)
    ]
    scores = score_matrix(bundle, asked)
    scores[:, ~bundle.recommender.catalogue] = -np.inf
    seen = bundle.recommender.histories.take(asked)
    scores[seen.rows, seen.values] = -np.inf
    answers = recommend(bundle.recommender, requests)
    personal = [answer["source"] == "personal" for answer in answers]
    assert sum(personal) > len(asked) / 2
    for row, answer in compress(zip(scores, answers, strict=True), personal):
        best = np.sort(row)[::-1][:10]
        found = bundle.recommender.items.index([item["item_id"] for item in answer["items"]])
        np.testing.assert_allclose(row[found], best, rtol=1e-3, atol=1e-4)
        told = [item["retrieval_score"] for item in answer["items"]]
        np.testing.assert_allclose(told, best, rtol=1e-3, atol=1e-3)
    assert len({a["items"][0]["item_id"] for a in recommend(bundle.recommender, requests)}) > 1
    # What scores add to products is none of what items are compared by.
    width = bundle.recommender.directions.shape[1]
    assert width == {"of a graph": 7, "dot": 8, "euclidean": 8}.get(name, width)
    # Someone new is encoded by the tower in the bundle.
    history = bundle.recommender.items.external(np.array([3, 4]))
    assert recommend(bundle.recommender, [Request(history=history)])[0]["source"] == "history"
