"""The configuration of a sweep: which run is varied, in what, and how often."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from train.config import Run, read_run, read_table
from train.settings import Settings
from tune.spaces import Range, check, parse


def _space(table: dict[str, Any]) -> dict[str, Any]:
    parse(table)
    return table


class Sweep(Settings):
    """Many trials of one run.

    Attributes:
        name: of the sweep; its files lie in `storage/name`.
        run: path of a run file, or the name of a preset of `train`.
        metric: what trials are compared by: "ndcg", the NDCG@10 over the whole catalogue, without
            seen items, of the validation window; never of the test.
        trials: how many.
        trials_at_once: at the most; each takes one CPU, and the GPU that `run` asks for.
        grace_epochs: epochs that every trial gets before it can be stopped as a bad one.
        seed: of the search; every trial trains with the run's own seed.
        storage: folder or URI.
        space: what is varied, see `tune.spaces`.
    """

    name: str = Field(default="sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    run: str
    metric: Literal["ndcg"] = "ndcg"
    trials: int = Field(default=16, ge=1)
    trials_at_once: int = Field(default=2, ge=1)
    grace_epochs: int = Field(default=2, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    storage: str = "runs"
    space: Annotated[dict[str, Any], AfterValidator(_space)]

    def ranges(self) -> dict[str, Range]:
        """Return the space, parsed."""
        return parse(self.space)

    def base(self) -> Run:
        """Read the run that is varied.

        Raises:
            ValueError: it does not know a key of the space, or a value at the end of a range.
        """
        run = read_run(self.run)
        check(self.ranges(), run)
        return run


def read_sweep(source: str, flags: Mapping[str, Any] | None = None) -> Sweep:
    """Read a sweep from a TOML file, or a preset by its name, and put flags over it.

    Raises:
        FileNotFoundError: there is neither such a file nor such a preset.
        ValueError: not TOML, or a key or value that is not known.
    """
    return Sweep.model_validate(read_table(source, "tune") | dict(flags or {}))
