"""Request and answer models of the HTTP API."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, create_model

from train.recommender.requests import Id, Request, Source
from train.recommender.rule_models import Rules, Strict, joined


class Asker(Strict):
    """Who asks. Ids are of the bundle's type: 5 and "5" are different users."""

    user_id: Id | None = Field(None, description="A user of the bundle, or a new one.")
    history: list[Id] = Field([], description="Item ids, oldest first; added to what is known.")
    user: dict[str, Any] = Field(
        {},
        description="Attributes of the user by their columns, for this request: of a new user, or "
        "in the place of what is known.",
        examples=[{"age": 25, "occupation": "artist"}],
    )


class Query(Asker, Rules):
    """Whom to recommend to, and by which rules."""

    exclude: list[Id] = Field([], description="Item ids not to return, seen or not.")
    explain: bool = Field(False, description="Say where each item comes from.")
    trace: bool = Field(
        False, description="Say what each step made of the request; needs the scope `admin`."
    )
    timeout_ms: int | None = Field(
        None, ge=1, le=60_000, description="After which the answer may be a lesser one: `degraded`."
    )
    scenario: str | None = Field(
        None, description="Rules of the service's file of scenarios; those given here go first."
    )


class RankQuery(Asker):
    """Items to bring into the order in which they would be recommended."""

    items: list[Id] = Field(min_length=1, max_length=1000, examples=[[50, 181]])


class SimilarQuery(Strict):
    """Items to be like, and to be unlike."""

    items: list[Id] = Field(min_length=1, max_length=1000, examples=[[50]])
    not_items: list[Id] = Field([], max_length=1000, description="To be unlike.")
    exclude: list[Id] = Field([], description="Item ids not to return.")
    filter: dict[str, Any] | None = Field(None, description="As of /recommend.")
    allow: list[Id] | None = Field(None, description="The only item ids to return.")
    fields: list[str] = Field([], description="Columns of the items to return.")


class Models:
    """The request models of an application, with its own largest k.

    Args:
        max_k: of a request.
    """

    def __init__(self, max_k: int) -> None:
        k: Any = (int, Field(10, ge=1, le=max_k, description="How many items."))
        query: Any = create_model("Query", __base__=Query, k=k)
        self.query = query
        self.similar: Any = create_model("SimilarQuery", __base__=SimilarQuery, k=k)
        several: Any = (list[query], Field(min_length=1, max_length=1000))
        self.batch: Any = create_model("BatchQuery", __base__=Strict, requests=several)


class Item(BaseModel):
    """One recommended item; the fields after `fields` come with `explain`."""

    item_id: Id
    score: float | None = Field(
        description="Of the second stage, or of the first where it is skipped; null for a pinned "
        "item that is no candidate."
    )
    title: str | None = None
    pinned: bool | None = None
    fields: dict[str, Any] | None = Field(None, description="The columns that were asked for.")
    retrieval_score: float | None = None
    retrieval_rank: int | None = Field(None, description="Place among the candidates, from 1.")
    ranking_score: float | None = None
    similar_to: Id | None = Field(None, description="The item of the history nearest to this one.")
    proposed_by: list[str] | None = Field(
        None, description="The candidate sources that proposed it, where there are several."
    )


class Similar(BaseModel):
    """Items, best first."""

    items: list[Item]
    bundle: str = Field(description="Version of the bundle that answered.")
    ignored: list[Id] | None = Field(None, description="Ids that the bundle does not know.")


class Answer(BaseModel):
    """Recommended items, best first."""

    items: list[Item]
    source: Source = Field(
        description="Basis of the items: the user, a history, attributes, or popularity."
    )
    bundle: str = Field(description="Version of the bundle that answered.")
    ignored: list[Id] | None = Field(
        None,
        description="Ids of history, exclude and pin that are unknown or cannot be followed, and a "
        "user's id that is a string where those of the bundle are integers, or the other way "
        "round.",
    )
    trace: dict[str, Any] | None = Field(None, description="What each step made of the request.")
    short: str | None = Field(None, description="Why there are fewer items than asked for.")
    degraded: Literal["ranker", "late"] | None = Field(
        None,
        description="Why the answer is a lesser one: stage 2 did not answer, so that stage 1's "
        "order stands, or the request waited too long, so that what is popular was answered.",
    )
    history_used: int | None = Field(
        None, description="The newest items of the history that counted, where it was longer."
    )


class Answers(BaseModel):
    """The answer to each request, in their order."""

    answers: list[Answer]


class Problem(BaseModel):
    """The reason why a request was refused."""

    detail: str


def as_request(query: Any, scenarios: Mapping[str, Rules]) -> Request:
    """Return a query of `Models.query` as a request, upon the rules of its scenario.

    Raises:
        KeyError: there is no such scenario.
    """
    base = Rules.model_validate({}) if query.scenario is None else scenarios[query.scenario]
    return Request(
        user_id=query.user_id,
        history=query.history,
        k=query.k,
        exclude=query.exclude,
        explain=query.explain,
        user=query.user,
        **joined(base, query),
    )
