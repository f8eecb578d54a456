"""The configuration of a run: defaults, then one TOML file, then flags."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, create_model, field_validator, model_validator

from cluster import storage
from train.baselines import BASELINES, Popularity, RecentPopularity
from train.datasets import DATASETS, Dataset
from train.index import IndexSettings
from train.job import Training
from train.linear_score import LinearScore
from train.losses import LOSSES, InBatchSoftmax, Loss
from train.model import Tower
from train.reranker import RerankerSettings
from train.rerankers import RERANKERS, CatBoost
from train.scorers import Baseline
from train.settings import Settings, one_of
from train.splits import SPLITS, Split, Time
from train.towers import TOWERS, TwoTower
from train.tracking import TRACKING, NoTracking, Tracking


class NoReranker(Settings):
    """Stage 1 alone."""

    name: Literal["none"] = "none"


class Evaluation(Settings):
    """How a bundle is measured.

    Attributes:
        k: the cut of every metric.
        more_k: further cuts of recall and NDCG.
        recent_days: window of the recent-popularity baseline.
        resamples: of the bootstrap over users.
        baselines: systems to compare with, names or tables with a name; flags take names.
    """

    k: int = Field(default=10, ge=1)
    more_k: tuple[Annotated[int, Field(ge=1)], ...] = ()
    recent_days: int = Field(default=7, ge=1)
    resamples: int = Field(default=2000, ge=100)
    baselines: tuple[Annotated[Baseline, one_of("baseline", BASELINES)], ...] = (
        Popularity(),
        RecentPopularity(),
    )

    @field_validator("baselines")
    @classmethod
    def _named_once(cls, baselines: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        names = [baseline.name for baseline in baselines]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"a baseline can be there once; more than once: {', '.join(twice)}")
        return baselines


class Draft(Settings):
    """What a run is made from, each setting by itself; together they are checked as a `Run`.

    Attributes:
        name: of the run; its files lie in `storage/name`, and the same name resumes.
        seed: of every draw.
        storage: folder or URI.
        candidates: items that stage 1 hands to stage 2.
        catalogue: "warm" recommends what somebody has taken; "all" also what is only in the item
            table, which a tower that encodes attributes can rank.
        page: draw the run's report, with plots, into `report.html`.
        final_fit: what the served towers are fitted on once the test is measured: "everything", or
            only what lies "before_test".
        data: where the three tables come from.
        split: what trains, validates and tests.
        tower: the architecture.
        loss: with its negatives; a tower that is fitted at once needs none.
        train: optimisation and workers.
        index: search over the item vectors.
        linear_score: a further score of candidates, for rerankers that learn from it.
        reranker: stage 2.
        evaluation: metrics.
        tracking: where a fit is logged too; it changes nothing in a run.
    """

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0, lt=2**20)
    storage: str = "runs"
    candidates: int = Field(default=200, ge=1)
    catalogue: Literal["warm", "all"] = "warm"
    page: bool = True
    final_fit: Literal["everything", "before_test"] = "everything"
    data: Annotated[Dataset, one_of("dataset", DATASETS)]
    split: Annotated[Split, one_of("split", SPLITS)] = Time()
    tower: Annotated[Tower, one_of("tower", TOWERS)] = TwoTower()
    loss: Annotated[Loss, one_of("loss", LOSSES)] = InBatchSoftmax()
    train: Training = Training()
    index: IndexSettings = IndexSettings()
    linear_score: LinearScore = LinearScore()
    reranker: Annotated[Settings, one_of("reranker", {"none": NoReranker, **RERANKERS})] = (
        CatBoost()
    )
    evaluation: Evaluation = Evaluation()
    tracking: Annotated[Tracking, one_of("tracking", TRACKING)] = NoTracking()


class Run(Draft):
    """Everything that one run is made from; it goes into the bundle as it was resolved.

    Raises:
        ValueError: settings that do not go together.
    """

    @model_validator(mode="after")
    def _loss_suits_the_tower(self) -> "Run":
        lack = None if self.tower.at_once else self.loss.needs(self.tower.scores)
        if lack:
            raise ValueError(f"loss {_name(self.loss.model_dump())!r} needs {lack}")
        return self

    @model_validator(mode="after")
    def _users_are_examples(self) -> "Run":
        if self.train.examples != "users":
            return self
        if self.tower.sequential:
            raise ValueError(
                "train.examples: history_transformer learns from whole histories; expected "
                "'interactions', got 'users'"
            )
        if self.loss.in_batch:
            raise ValueError(
                "train.examples 'users' needs negatives that are drawn, and those of the batch are "
                "mostly the user's own: set loss to sampled_softmax or full_softmax"
            )
        if self.train.context == "before":
            raise ValueError(
                "train.context: a user as an example has no moment to be before; expected 'all', "
                "got 'before'"
            )
        return self

    @model_validator(mode="after")
    def _graphs_know_no_moments(self) -> "Run":
        if self.tower.graph and self.train.context == "before":
            raise ValueError(
                f"train.context: {_name(self.tower.model_dump())} learns from the graph of all "
                "interactions; expected 'all', got 'before'"
            )
        return self

    @model_validator(mode="after")
    def _cold_items_are_encoded(self) -> "Run":
        blind = self.catalogue == "all" and not self.tower.item_attributes
        if blind:
            # A tower that is fitted at once learns of ids alone.
            mend = "" if self.tower.at_once else "it to true, or "
            raise ValueError(
                'catalogue "all" has items that nobody took, and without tower.item_attributes '
                f"they all look the same; set {mend}catalogue to warm"
            )
        return self

    @model_validator(mode="after")
    def _reranker_suits_the_tower(self) -> "Run":
        reads_vectors = isinstance(self.reranker, RerankerSettings) and self.reranker.reads_vectors
        if self.tower.pairs and reads_vectors:
            raise ValueError(
                f"reranker {_name(self.reranker.model_dump())!r} reads vectors, and those of tower "
                f"{_name(self.tower.model_dump())!r} mean something else after every fit; set "
                "reranker to catboost or none"
            )
        return self

    def table(self) -> dict[str, Any]:
        """Return every setting as plain JSON values; `Run.model_validate` takes it back."""
        return self.model_dump(mode="json", serialize_as_any=True)


CHOICES = ("data", "split", "tower", "loss", "reranker", "tracking")


def read_run(source: str, flags: Sequence[str] = ()) -> Run:
    """Read a run from a TOML file, or a preset by its name, and apply flags over it.

    Args:
        source: path or URI of a TOML file, or the name of one of `presets()`.
        flags: `--loss.temperature 0.05 ...`; `--loss.name NAME` puts that entry in the place of
            the whole table.

    Raises:
        FileNotFoundError: there is neither such a file nor such a preset.
        ValueError: not TOML, or a key or value that is not known.
    """
    return apply_flags(read_table(source), flags)


def read_table(source: str, package: str = "train") -> dict[str, Any]:
    """Read a TOML file, or a preset by its name, over the one that its key `extends` names.

    Tables are merged key by key, but a table with another `name` takes the whole place of that in
    the extended file, and so does every other value.

    Raises:
        FileNotFoundError: there is neither such a file nor such a preset.
        ValueError: not TOML, or `extends` is no name or path, or leads back to where it began.
    """
    return _extended(source, package, ())


def _extended(source: str, package: str, chain: tuple[str, ...]) -> dict[str, Any]:
    """Return the table of a source that those in the chain extend, one after the other."""
    if source in chain:
        raise ValueError(f"extends goes in a circle: {' -> '.join([*chain, source])}")
    table = _table(source, package)
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise ValueError(f"{source}: extends: expected a preset or a TOML file, got {base!r}")
    try:
        return _merged(_extended(base, package, (*chain, source)), table)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{source} extends what is not there: {error}") from error


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables merged; what is only a name is the table that has it."""
    merged = dict(base)
    for key, value in over.items():
        earlier = merged.get(key)
        if isinstance(earlier, str):
            earlier = {"name": earlier}
        if isinstance(value, dict) and isinstance(earlier, dict) and _same_name(earlier, value):
            merged[key] = _merged(earlier, value)
        else:
            merged[key] = value
    return merged


def _same_name(earlier: Mapping[str, Any], table: Mapping[str, Any]) -> bool:
    return bool(table.get("name", earlier.get("name")) == earlier.get("name"))


def _table(source: str, package: str) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(source, package))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source} is not TOML: {error}") from error


def presets(package: str = "train") -> dict[str, str]:
    """Return the text of each preset of a package by its name."""
    folder = files(package) / "presets"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return {entry.name.removesuffix(".toml"): entry.read_text() for entry in found}


def apply_flags(table: Mapping[str, Any], flags: Sequence[str]) -> Run:
    """Return the run of a table of settings with flags applied over it.

    Raises:
        ValueError: a key or value that is not known.
    """
    table, rest = _chosen(dict(table), list(flags))
    if not rest:
        return Run.model_validate(table)
    import tyro

    # Flags may mend what does not go together.
    run = Draft.model_validate(table)
    # Flags need to know which entry of each choice is meant.
    concrete: Any = {name: (type(getattr(run, name)), getattr(run, name)) for name in CHOICES}
    evaluation = _with_baseline_names().model_construct(**dict(run.evaluation))
    concrete["evaluation"] = (type(evaluation), evaluation)
    model = create_model("Draft", __base__=Draft, **concrete)
    parsed = tyro.cli(
        model,
        prog="python -m train fit RUN.toml",
        default=model.model_construct(**{**dict(run), "evaluation": evaluation}),
        args=rest,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.AvoidSubcommands),
    )
    return Run.model_validate(parsed.model_dump(mode="json", serialize_as_any=True))


def _with_baseline_names() -> type[Evaluation]:
    """Return the evaluation with baselines that are names to tyro; unnamed, they stay as given."""
    from tyro.constructors import PrimitiveConstructorSpec

    names: Any = PrimitiveConstructorSpec(
        nargs="*",
        metavar="[NAME ...]",
        instance_from_str=tuple,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [entry.name for entry in value],
    )
    entries = Evaluation.model_fields["baselines"].annotation
    field: Any = Annotated[entries, names]
    return create_model("Evaluation", __base__=Evaluation, baselines=(field, ...))


def _chosen(table: dict[str, Any], flags: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Take `--loss.name NAME` out of the flags and make it the table's whole entry."""
    rest: list[str] = []
    words = iter(
        [part for flag in flags for part in (flag.split("=", 1) if flag[:2] == "--" else [flag])]
    )
    for word in words:
        part = word.removeprefix("--").removesuffix(".name")
        if word == f"--{part}.name" and part in CHOICES:
            name = next(words, "")
            if _name(table.get(part)) != name:
                table[part] = {"name": name}
        else:
            rest.append(word)
    return table, rest


def _name(entry: Any) -> Any:
    return entry.get("name") if isinstance(entry, dict) else entry


def _text(source: str, package: str) -> str:
    known = presets(package)
    if source in known:
        return known[source]
    path = Path(source)
    if storage.is_uri(source) and storage.exists(source):
        return storage.read_bytes(source).decode()
    if not path.is_file():
        available = ", ".join(sorted(known))
        raise FileNotFoundError(
            f"no file {source!r}; expected a TOML file or one of the presets: {available}"
        )
    return path.read_text(encoding="utf-8")
