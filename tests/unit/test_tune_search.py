"""What the search suggests, and what it is told."""

from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest

from train.config import Run
from tune.space.draws import override, suggest
from tune.space.points import finished_trial
from tune.space.ranges import parse
from tune.trials.optuna_search import Search, sampler
from tune.trials.trial import Directions

RUN = Run.model_validate({"data": "generated"})
SPACE = parse(
    {
        "train.learning_rate": {"loguniform": [1e-4, 1e-1]},
        "loss": {
            "choice": [
                {"name": "bpr", "count": {"int": [1, 9]}},
                {"name": "triplet", "margin": {"uniform": [0.1, 2]}},
            ]
        },
    }
)


def draw(trial: Any) -> dict[str, Any]:
    return {"overrides": suggest(SPACE, trial)}


def nothing(_values: Any) -> None:
    return None


def made(seed: int = 0, metrics: Directions | None = None, **changes: Any) -> Search:
    options: dict[str, Any] = {"as_it_is": nothing, "study_name": "made"} | changes
    name = options.pop("name", "tpe")
    return Search(draw, metrics or {"ndcg": "max"}, sampler(name, seed), **options)


def trials(search: Search) -> list[optuna.trial.FrozenTrial]:
    return list(search._study.trials)


def sequence(search: Search, count: int = 20) -> list[dict[str, Any]]:
    """Return suggested configs, each told to be the better the higher its learning rate is."""
    found = []
    for number in range(count):
        config = search.suggest(str(number))
        assert config is not None
        found.append(config)
        rate = config["overrides"].get("train.learning_rate", 0.0)
        search.on_trial_complete(str(number), {"ndcg": rate, "training_iteration": 1})
    return found


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_a_seed_gives_the_same_trials_again(name: str) -> None:
    first, again = sequence(made(3, name=name)), sequence(made(3, name=name))
    assert first == again
    assert sequence(made(4, name=name)) != first
    assert [config["trial"] for config in first] == list(range(1, 21))
    assert first[0]["overrides"] == {}
    for config in first:
        override(RUN, config["overrides"])


def test_tpe_goes_where_it_is_good() -> None:
    rates = [c["overrides"]["train.learning_rate"] for c in sequence(made(), 60)[1:]]
    chance = [c["overrides"]["train.learning_rate"] for c in sequence(made(name="random"), 60)[1:]]
    assert sorted(rates[20:])[20] > 3 * sorted(chance[20:])[20]


def test_a_trial_whose_process_died_is_told_as_the_worst() -> None:
    search = made(metrics={"ndcg": "max", "milliseconds": "min"})
    for number in range(3):
        search.suggest(str(number))
    search.on_trial_complete("0", error=True)
    search.on_trial_complete("1", error=True)
    search.on_trial_complete("2", {"ndcg": 0.2, "milliseconds": 3.0})
    assert [one.values for one in trials(search)] == [[0.0, 1e9], [0.2, 3.0]]


def test_the_run_as_it_is_teaches_the_search_where_the_space_has_it() -> None:
    point = {"train.learning_rate": 0.01, "loss": "bpr", "loss.bpr.count": 4}
    search = made(as_it_is=partial(finished_trial, SPACE, point))
    search.suggest("0")
    search.on_trial_result("0", {"ndcg": 0.1, "training_iteration": 1})
    search.on_trial_complete("0", {"ndcg": 0.3})
    assert [(one.params, one.values) for one in trials(search)] == [(point, [0.3])]


def test_points_come_first_and_earlier_trials_are_known() -> None:
    point = {"train.learning_rate": 0.02, "loss": "triplet", "loss.triplet.margin": 1.5}
    search = made(start=[point])
    search.add_finished([(point | {"loss.triplet.margin": 0.5}, [0.7])], SPACE)
    search.suggest("0")
    second = search.suggest("1")
    assert second is not None
    assert second["overrides"] == {
        "train.learning_rate": 0.02,
        "loss": {"name": "triplet", "margin": 1.5},
    }
    assert search._study.best_value == 0.7


def test_what_optuna_knows_to_have_ended_may_be_reported_again(tmp_path: Path) -> None:
    search = made(storage=optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/optuna.db"))
    for number in range(2):
        search.suggest(str(number))
    search.save(str(tmp_path / "before"))
    search.on_trial_complete("1", {"ndcg": 0.4, "training_iteration": 1})
    search.restore(str(tmp_path / "before"))
    again = {"ndcg": 0.4, "training_iteration": 2}
    search.on_trial_result("1", again)
    search.on_trial_complete("1", again)
    assert [one.values for one in trials(search)] == [[0.4]]
