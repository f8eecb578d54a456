"""Request and answer models of the HTTP API."""

from pydantic import BaseModel, ConfigDict, Field

from train.recommender.requests import Id, Source


class Query(BaseModel):
    """Whom to recommend to. Ids are of the bundle's type: 5 and "5" are different users."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user_id: Id | None = Field(None, description="A user of the bundle, or a new one.")
    history: list[Id] = Field([], description="Item ids, oldest first; added to what is known.")
    exclude: list[Id] = Field([], description="Item ids not to return, seen or not.")
    explain: bool = Field(False, description="Say where each item comes from.")


class Item(BaseModel):
    """One recommended item; the fields after the title come with `explain`."""

    item_id: Id
    score: float = Field(description="Of the second stage, or of the first where it is skipped.")
    title: str | None = None
    retrieval_score: float | None = None
    retrieval_rank: int | None = Field(None, description="Place among the candidates, from 1.")
    ranking_score: float | None = None
    similar_to: Id | None = Field(None, description="The item of the history nearest to this one.")
    proposed_by: list[str] | None = Field(
        None, description="The candidate sources that proposed it, where there are several."
    )


class Answer(BaseModel):
    """Recommended items, best first."""

    items: list[Item]
    source: Source = Field(description="Basis of the items: the user, a history, or popularity.")
    bundle: str = Field(description="Version of the bundle that answered.")
    ignored: list[Id] | None = Field(
        None,
        description="Ids of history and exclude that are unknown, and a user's id that is a string "
        "where those of the bundle are integers, or the other way round.",
    )


class Problem(BaseModel):
    """The reason why a request was refused."""

    detail: str
