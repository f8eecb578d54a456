"""What every system recommends to the users of a test."""

from dataclasses import dataclass

from train.core.ragged import Array, Ragged
from train.data.encoded import Encoded
from train.evaluation.settings import Evaluation
from train.index.exact import rank_excluding
from train.recommender.stages import StageOne, rank_both
from train.rerankers.base import Reranker


@dataclass(frozen=True)
class Rankings:
    """Items for the V users of a test, best first, -1 after the last.

    Attributes:
        unseen: by system, without what the user has seen, int32 `[V, k]`.
        all_items: by system, with it.
        candidates: those of stage 2, int32 `[V, C]`.
    """

    unseen: dict[str, Array]
    all_items: dict[str, Array]
    candidates: Array


def rank(
    data: Encoded,
    stage: StageOne,
    reranker: Reranker | None,
    users: Array,
    candidates: int,
    settings: Evaluation,
    seed: int,
) -> Rankings:
    """Rank the catalogue for users `[V]` by each baseline, stage 1 and both stages.

    Rankings are as long as the largest cut of the settings. Both stages rank no more than the
    candidates, however long that is.
    """
    k = max((settings.k, *settings.more_k))
    unseen, all_items = _by_baselines(stage, users, settings, k, seed)
    # As in serving, stage 2 is given at least what is asked for.
    count = max(candidates, settings.k)
    both, found = rank_both(data, stage, reranker, users, count, k)
    both_of_all, found_of_all = rank_both(data, stage, reranker, users, count, k, unseen=False)
    unseen["stage_1"], all_items["stage_1"] = found[:, :k], found_of_all[:, :k]
    if reranker is not None:
        unseen["both_stages"], all_items["both_stages"] = both, both_of_all
    return Rankings(unseen, all_items, found[:, :count])


def _by_baselines(
    stage: StageOne, users: Array, settings: Evaluation, k: int, seed: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the rankings of unseen and of all items by baseline, [V, k] each."""
    known, unseen, all_items = stage.snapshot, {}, {}
    excludes = [Ragged.empty(len(users)), known.histories.take(users)]
    for baseline in settings.baselines:
        score = baseline.fit(known, settings.recent_days, seed)
        all_items[baseline.name], unseen[baseline.name] = rank_excluding(
            score, users, known.catalogue, excludes, k
        )
    return unseen, all_items
