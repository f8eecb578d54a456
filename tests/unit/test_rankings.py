"""Rankings by both stages, as they are measured."""

from dataclasses import replace

import numpy as np

from tests.bundles import make_recommender
from train.evaluation.rankings import rank_stages
from train.recommender.answers import recommend
from train.recommender.requests import Request

USERS = np.arange(20)


def test_a_reranker_is_measured_whether_it_earned_its_place_or_not() -> None:
    earned = replace(make_recommender(users=60, items=120), candidates=40)
    ranked = rank_stages(earned, USERS, 10)
    both, found = ranked["both_stages"], ranked["stage_1"]
    assert (both != found[:, :10]).any()
    idle = replace(earned, served="stage_1")
    np.testing.assert_array_equal(rank_stages(idle, USERS, 10)["both_stages"], both)
    # What is measured is what is served where it earned its place.
    answers = recommend(earned, [Request(user_id=1000 + int(user)) for user in USERS])
    served = [[entry["item_id"] - 5 for entry in answer["items"]] for answer in answers]
    assert served == both.tolist()
