"""The configuration of a run: defaults, then one TOML file, then flags."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from train.baselines.base import Baseline
from train.baselines.buy_again import BuyAgain
from train.core.schema import Seen
from train.core.settings import FolderName, Settings, named_once, one_of
from train.data.linear_score import LinearScore
from train.data.splits import SPLITS
from train.data.splits.auto import AutoSplit
from train.data.splits.base import Split
from train.datasets import DATASETS
from train.datasets.base import Dataset
from train.evaluation.settings import Evaluation
from train.index.base import IndexSettings
from train.losses import LOSSES
from train.losses.base import Loss
from train.losses.softmax import InBatchSoftmax
from train.rerankers import RERANKERS
from train.rerankers.base import RerankerSettings
from train.rerankers.blend import Blend
from train.rerankers.catboost_reranker import CatBoost
from train.rerankers.logit import Logit
from train.sources.base import SourceSettings
from train.sources.buy_again import BuyAgainSource
from train.sources.collaborative import ALSSource, EASESource, ItemKNNSource
from train.sources.entries import SOURCES, TowerSource
from train.sources.popularity import RecentPopularitySource, TrendingSource
from train.towers import TOWERS
from train.towers.base import Tower
from train.towers.two_tower import TwoTower
from train.tracking import TRACKING
from train.tracking.base import NoTracking, Tracking
from train.trainer.job import Training


class NoReranker(Settings):
    """Stage 1 alone."""

    name: Literal["none"] = "none"


def _some(kinds: tuple[RerankerSettings, ...]) -> tuple[RerankerSettings, ...]:
    if not kinds:
        raise ValueError("expected one reranker or more, got none; for none set reranker = 'none'")
    return kinds


class AutoReranker(Settings):
    """Several kinds of rerankers, of which the simplest within one standard error of the best is.

    Attributes:
        kinds: names or tables of rerankers, the simplest first.
    """

    name: Literal["auto"] = "auto"
    kinds: Annotated[
        tuple[Annotated[RerankerSettings, one_of("reranker", RERANKERS)], ...],
        named_once("reranker"),
        AfterValidator(_some),
    ] = (Blend(), Logit(), CatBoost())


STAGE_TWO: Mapping[str, type[Settings]] = {"none": NoReranker, "auto": AutoReranker, **RERANKERS}
DEFAULT_SOURCES: tuple[SourceSettings, ...] = (
    TowerSource(),
    EASESource(),
    ALSSource(),
    ItemKNNSource(),
    RecentPopularitySource(),
    TrendingSource(),
)


REPEAT_SOURCES = (*DEFAULT_SOURCES, BuyAgainSource())
DEFAULT_BASELINES: tuple[Baseline, ...] = Evaluation().baselines
REPEAT_BASELINES = (*DEFAULT_BASELINES, BuyAgain())


class Draft(Settings):
    """Settings of a run, each valid by itself; `Run` checks that they go together.

    Attributes:
        name: of the run; its files lie in `storage/name`, and the same name resumes.
        seed: of every draw.
        storage: folder or URI.
        candidates: items that stage 1 hands to stage 2.
        catalogue: "warm" recommends items with interactions; "all" also those that are only in the
            item table, which a tower that encodes attributes can rank (cold start).
        seen: items of a user's history: "exclude" never recommends them again, and the test counts
            only what is new to a user; "allow" recommends and counts repeat purchases too; "only"
            recommends and counts nothing else. With these two, `buy_again` is a source and a
            baseline by default.
        page: draw the run's report, with plots, into `report.html`.
        final_fit: interactions that the served towers are fitted on once the test is measured:
            "everything", or only those "before_test".
        data: source of the interactions, items and users.
        split: training, validation and test parts.
        tower: the architecture.
        loss: with its negatives; towers fitted in closed form need none.
        train: optimization and workers.
        index: search over the item vectors.
        linear_score: a further score of candidates, for rerankers that learn from it.
        sources: that propose candidates: "tower", which is the tower of this run, and others, names
            or tables with a name. Those that are not named but there by default are left out where
            the data do not suffice, and so is each that adds nothing to the candidates of the
            validation users, nor to their order.
        reranker: stage 2.
        evaluation: metrics.
        tracking: experiment tracking; not part of a run's identity.
    """

    name: FolderName = "run"
    seed: int = Field(default=0, ge=0, lt=2**20)
    storage: str = "runs"
    candidates: int = Field(default=200, ge=1)
    catalogue: Literal["warm", "all"] = "warm"
    seen: Seen = "exclude"
    page: bool = True
    final_fit: Literal["everything", "before_test"] = "everything"
    data: Annotated[Dataset, one_of("dataset", DATASETS)]
    split: Annotated[Split, one_of("split", SPLITS)] = AutoSplit()
    tower: Annotated[Tower, one_of("tower", TOWERS)] = TwoTower()
    loss: Annotated[Loss, one_of("loss", LOSSES)] = InBatchSoftmax()
    train: Training = Training()
    index: IndexSettings = IndexSettings()
    linear_score: LinearScore = LinearScore()
    sources: Annotated[
        tuple[Annotated[SourceSettings, one_of("source", SOURCES)], ...], named_once("source")
    ] = Field(default=DEFAULT_SOURCES, validate_default=True)
    reranker: Annotated[Settings, one_of("reranker", STAGE_TWO)] = AutoReranker()
    evaluation: Evaluation = Field(default=Evaluation(), validate_default=True)
    tracking: Annotated[Tracking, one_of("tracking", TRACKING)] = NoTracking()

    # Not by whether they were given: flags are applied over settings that all are.
    @field_validator("sources")
    @classmethod
    def _past_is_a_source(
        cls, sources: tuple[SourceSettings, ...], info: ValidationInfo
    ) -> tuple[SourceSettings, ...]:
        repeats = info.data.get("seen", "exclude") != "exclude"
        return REPEAT_SOURCES if repeats and sources == DEFAULT_SOURCES else sources

    @field_validator("evaluation")
    @classmethod
    def _past_is_a_baseline(cls, evaluation: Evaluation, info: ValidationInfo) -> Evaluation:
        repeats = info.data.get("seen", "exclude") != "exclude"
        if not repeats or evaluation.baselines != DEFAULT_BASELINES:
            return evaluation
        return evaluation.model_copy(update={"baselines": REPEAT_BASELINES})


class Run(Draft):
    """Settings of a run that go together, resolved; they are stored in its bundle.

    Raises:
        ValueError: settings that do not go together.
    """

    @model_validator(mode="after")
    def _goes_together(self) -> "Run":
        checks = (
            self._loss_suits_the_tower,
            self._training_suits_the_tower,
            self._users_are_examples,
            self._users_have_no_moment,
            self._cold_items_are_encoded,
            self._reranker_suits_the_tower,
            self._towers_are_a_source,
            self._repeats_are_allowed,
        )
        mistakes = [said for check in checks if (said := _mistake(check))]
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    def _loss_suits_the_tower(self) -> None:
        lack = self.tower.unmet(self.loss)
        if lack:
            raise ValueError(f"loss {name_of(self.loss.model_dump())!r} needs {lack}")

    def _training_suits_the_tower(self) -> None:
        self.tower.check_training(self.train.examples, self.train.context)

    def _users_are_examples(self) -> None:
        if self.train.examples == "users" and self.loss.in_batch:
            raise ValueError(
                "train.examples 'users' needs negatives that are drawn, and those of the batch are "
                "mostly the user's own: set loss to sampled_softmax or full_softmax"
            )

    def _users_have_no_moment(self) -> None:
        if self.train.examples == "users" and self.train.context == "before":
            raise ValueError(
                "train.context: a user as an example has no moment to be before; expected 'all', "
                "got 'before'"
            )

    def _cold_items_are_encoded(self) -> None:
        if self.catalogue == "all":
            self.tower.check_cold_items()

    def _reranker_suits_the_tower(self) -> None:
        for reranker in self.rerankers():
            if reranker.reads_vectors:
                self.tower.check_vector_reader(reranker.name)

    def _towers_are_a_source(self) -> None:
        names = [source.name for source in self.sources]
        if "tower" not in names:
            raise ValueError(
                "sources: expected the tower among them, whose vectors describe candidates, got "
                f"{', '.join(names) or 'none'}; add 'tower'"
            )

    def _repeats_are_allowed(self) -> None:
        if self.seen == "exclude" and any(source.name == "buy_again" for source in self.sources):
            raise ValueError(
                "sources: buy_again proposes what users had before, which is never recommended "
                "with seen = 'exclude'; set seen to 'allow' or 'only', or take it out"
            )

    def names_baselines(self) -> bool:
        """Return whether somebody asked for these baselines: they are not the default ones."""
        return self.evaluation.baselines not in (DEFAULT_BASELINES, REPEAT_BASELINES)

    def names_sources(self) -> bool:
        """Return whether somebody asked for these sources: they are not the default ones."""
        return self.sources not in (DEFAULT_SOURCES, REPEAT_SOURCES)

    def rerankers(self) -> tuple[RerankerSettings, ...]:
        """Return the rerankers that stage 2 is chosen from, the simplest first."""
        if isinstance(self.reranker, AutoReranker):
            return self.reranker.kinds
        return (self.reranker,) if isinstance(self.reranker, RerankerSettings) else ()

    def table(self) -> dict[str, Any]:
        """Return every setting as plain JSON values; `Run.model_validate` takes it back."""
        return self.model_dump(mode="json", serialize_as_any=True)


def _mistake(check: Callable[[], None]) -> str | None:
    try:
        check()
    except ValueError as error:
        return str(error)
    return None


def name_of(entry: Any) -> Any:
    """Return the `name` of a table, or the value that is a name itself."""
    return entry.get("name") if isinstance(entry, dict) else entry
