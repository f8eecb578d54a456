"""Rules of a request as JSON: what HTTP, scenarios and the command line validate alike."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from train.recommender.requests import Id


class Strict(BaseModel):
    """A model that takes no further keys, and no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Boost(Strict):
    """Multiplies the odds of the items that pass a filter."""

    filter: dict[str, Any]
    factor: float = Field(gt=0, le=1e6, description="Below 1 it demotes.")


class Pin(Strict):
    """Puts an item at a position."""

    item_id: Id
    position: int = Field(ge=1, description="From 1.")


class Rules(Strict):
    """What may be recommended, and how an answer is put together."""

    filter: dict[str, Any] | None = Field(
        None,
        description='Over the columns of items: {"price": {"lt": 20}}, joined by "and", "or", '
        '"not".',
        examples=[{"genres": {"any": ["Comedy"]}}],
    )
    allow: list[Id] | None = Field(None, description="The only item ids to return.")
    seen: Literal["exclude", "allow"] | None = Field(
        None, description="Whether items of the history are returned; else what the bundle says."
    )
    boost: list[Boost] = Field([], description="Items to promote or to demote.")
    pin: list[Pin] = Field([], description="Items at given positions, whatever else the rules say.")
    max_per: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description='The most items with one value of a column: {"brand": 2}.'
    )
    diversity: float = Field(
        0.0, ge=0, le=1, description="How much each item is to differ from those before it (MMR)."
    )
    fields: list[str] = Field([], description="Columns of the items to return.")

    def values(self) -> dict[str, Any]:
        """Return the rules that were given, as the fields of a `Request`."""
        dumped = self.model_dump(include=set(Rules.model_fields), exclude_unset=True)
        return dict(dumped)


def joined(base: Rules, own: Rules) -> dict[str, Any]:
    """Return the rules of a request upon those of its scenario.

    What the request gives is in the place of what the scenario gives; both filters hold.
    """
    first, second = base.values(), own.values()
    filters = [of["filter"] for of in (first, second) if of.get("filter") is not None]
    both = {"filter": {"and": filters}} if len(filters) == 2 else {}
    return first | second | ({"filter": filters[0]} if len(filters) == 1 else {}) | both
