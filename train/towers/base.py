"""What every tower is: two sides, layers over them, and vectors that rank the catalogue.

Shapes: U users, I items, B batch, M items asked for, h history length, N items in all histories of
a batch, w width of what is looked up of an item, d width of the vectors.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from train.core.schema import Interactions
from train.core.settings import Settings
from train.data.encoders import Features
from train.data.snapshot import TowerInputs
from train.towers.embeddings import SideEmbedding
from train.towers.layers import PairLayers

Scores = Literal["dot", "cosine", "euclidean", "pair"]


@dataclass(frozen=True)
class TowerLayers:
    """The layers of both sides; those that a tower does not have hand on what they get.

    Attributes:
        history: `[m, w]` of item inputs, places and presence `[B, h]` -> `[B, d]`; None for none.
        user: over what is looked up of users, `[B, d] -> [B, d]`, before the history is added.
        joined: over the sum of both, `[B, d] -> [B, d]`.
        item: over what is looked up of items, `[M, w] -> [M, d]`.
        head: scores pairs of vectors where that is no inner product.
    """

    history: nn.Module | None
    user: nn.Module
    joined: nn.Module
    item: nn.Module
    head: PairLayers | None = None


class Tower(Settings):
    """Settings that every architecture has; `build_layers` makes its layers.

    Attributes:
        pairs: whether layers over both vectors score a pair: nothing can index that, so the whole
            catalogue is tried, and `score` is "pair".
        sequential: whether it learns from every item of a history at once; then an example is
            `history` interactions of a user in a row.
        graph: whether it learns from all interactions of all users at each step; then no example
            has a history of its own.
        at_once: whether `fit` sets its weights, all at once; then loss and epochs do not matter.
        width: length d of the vectors.
        user_id: give users an id embedding; without one a user is only history and attributes.
        item_id: give items an id embedding.
        user_attributes: encode the columns of the user table.
        item_attributes: encode the columns of the item table.
        history: newest interactions that describe a user; 0 for none.
        dropout: share of values set to 0 in training.
        normalize: scale vectors to length 1.
        item_bias: the last element of an item's vector is added to its scores, whoever asks, and
            not multiplied: how often it is taken, which cosines say badly.
        score: what ranks: "dot", the inner product of the vectors; "cosine", that of vectors of
            length 1, which wants a temperature near 0.1 in the loss; or "euclidean", minus the
            squared distance.
    """

    pairs: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    graph: ClassVar[bool] = False
    at_once: ClassVar[bool] = False

    width: int = Field(default=64, ge=1)
    user_id: bool = True
    item_id: bool = True
    user_attributes: bool = True
    item_attributes: bool = True
    history: int = Field(default=200, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    normalize: bool = False
    item_bias: bool = False
    score: Scores = "dot"

    @model_validator(mode="after")
    def _score_is_one_of_its_own(self) -> "Tower":
        if self.pairs != (self.score == "pair") or (self.pairs and self.normalize):
            own = "pair, and nothing to normalize" if self.pairs else "dot, cosine or euclidean"
            raise ValueError(f"score: expected {own}, got {self.score!r}")
        return self

    @model_validator(mode="after")
    def _a_bias_is_beside_other_elements(self) -> "Tower":
        if self.item_bias and (self.pairs or self.width < 2):
            own = (
                "false, for its layers add what they want" if self.pairs else "a width of 2 or more"
            )
            raise ValueError(f"item_bias: expected {own}")
        return self

    @property
    def scores(self) -> Scores:
        """What scores are: inner products of vectors of length 1 are cosines, but for a bias."""
        if self.item_bias:
            return "dot"
        return "cosine" if self.normalize and self.score == "dot" else self.score

    @property
    def product_width(self) -> int:
        """Return how many elements of a vector are multiplied: all but a bias."""
        return self.width - self.item_bias

    @property
    def added(self) -> int:
        """Return how many elements at the end of vectors a score adds to the product of others."""
        return 2 * (self.score == "euclidean") + self.item_bias

    def item_width(self) -> int:
        """Return the width w of what is looked up of an item; of a user it is d."""
        return self.width

    def build_layers(self) -> TowerLayers:
        """Return freshly initialised layers."""
        raise NotImplementedError

    def build(self, inputs: TowerInputs) -> "TwoTowerModel":
        """Return a freshly initialised module over these tables."""
        return TwoTowerModel(self, inputs)

    def prepare(self, model: "TwoTowerModel", known: Interactions) -> None:
        """Give a fresh module what it needs of the interactions beside batches of them."""

    def check(self, items: int, features: Features) -> None:
        """Raise ValueError where so many warm items with these attributes cannot be fitted."""

    def fit(
        self, model: "TwoTowerModel", inputs: TowerInputs, known: Interactions, seed: int
    ) -> None:
        """Set the weights of a fresh module by what was known, where that is done at once."""
        raise NotImplementedError


class TwoTowerModel(nn.Module):
    """The module behind every tower; indices in, vectors out.

    Attributes:
        item_embedding: what looks up items.
    """

    item_embedding: ClassVar[type[SideEmbedding]] = SideEmbedding

    def __init__(self, settings: Tower, inputs: TowerInputs) -> None:
        super().__init__()
        self.settings = settings
        self.item_input = self.item_embedding(
            inputs.item_features,
            inputs.warm_items,
            settings.item_width(),
            settings.item_id,
            settings.item_attributes,
        )
        self.user_input = SideEmbedding(
            inputs.user_features,
            inputs.warm_users,
            settings.width,
            settings.user_id,
            settings.user_attributes,
        )
        # With several workers every parameter has to be used.
        layers = settings.build_layers()
        self.history, self.joined = layers.history, layers.joined
        self.user_layers, self.item_layers = layers.user, layers.item
        self.head = layers.head
        self.rotation: Tensor
        self.register_buffer("rotation", torch.eye(settings.product_width))

    @property
    def device(self) -> torch.device:
        """Where the parameters and tables are."""
        return self.rotation.device

    def forward(self, users: Tensor, history: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Encode users `[B]` with histories `[B, h]` and items `[M]`: `[B, d]` and `[M, d]`.

        Every item that occurs is looked up once, however often it stands in the histories, and goes
        through its layers once, however often it is asked for. A sequential tower in training
        returns a user vector at each item of the histories, `[N, d]`, row by row.
        """
        wanted = torch.cat([items, history.flatten().clamp(min=0)])
        inputs, position = self._distinct(wanted)
        place, present = position[len(items) :].view_as(history), history >= 0
        every = self.settings.sequential and self.training
        if every:
            users = users.repeat_interleave(present.sum(1))
        vectors = self.user_vectors(self.user_input(users), inputs, place, present, every)
        asked, which = torch.unique(position[: len(items)], return_inverse=True)
        return vectors, F.embedding(which, self.item_vectors(F.embedding(asked, inputs)))

    def encode_users(self, users: Tensor, history: Tensor) -> Tensor:
        """Encode users `[B]` (-1 unknown) with histories `[B, h]` (-1 padded): `[B, d]`."""
        inputs, place = self._distinct(history.flatten().clamp(min=0))
        looked_up = self.user_input(users)
        return self.user_vectors(looked_up, inputs, place.view_as(history), history >= 0)

    def encode_items(self, items: Tensor) -> Tensor:
        """Encode items `[M]`: `[M, d]`."""
        return self.item_vectors(self.item_input(items))

    def _distinct(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of the items that occur and the place of each in them."""
        if len(wanted) >= self.item_input.count:
            return self.item_input.everything(), wanted
        distinct, position = torch.unique(wanted, return_inverse=True)
        return self.item_input(distinct), position

    def user_vectors(
        self, users: Tensor, inputs: Tensor, place: Tensor, present: Tensor, every: bool = False
    ) -> Tensor:
        """Return the vectors of users from what was looked up of them and of their items.

        Args:
            users: looked up, `[B, d]`.
            inputs: looked up of items, `[m, w]`.
            place: of the histories' items in `inputs`, oldest first, `[B, h]`.
            present: where there is one, bool `[B, h]`.
            every: one for each item of the histories; then `users` has a row for each.
        """
        hidden = self.user_layers(users)
        if self.history is not None:
            options = {"every": True} if every else {}
            hidden = hidden + self.history(inputs, place, present, **options)
        return self.finish_users(hidden)

    def finish_users(self, hidden: Tensor) -> Tensor:
        """Return the vectors of users from the sum of what is known of them, `[B, d]`."""
        joined: Tensor = self.joined(hidden)
        if self.head is not None:
            return joined
        vectors, added = self._finish(joined), []
        if self.settings.score == "euclidean":
            # -|u - v|^2 is the inner product of [2u, -|u|^2, -1] and [v, 1, |v|^2].
            square = vectors.square().sum(1, keepdim=True)
            vectors, added = 2 * vectors, [-square, -torch.ones_like(square)]
        if self.settings.item_bias:
            added.append(torch.ones_like(vectors[:, :1]))
        return _beside(vectors, added)

    def item_vectors(self, inputs: Tensor) -> Tensor:
        """Return the vectors of items from what was looked up of them, `[M, w] -> [M, d]`."""
        hidden: Tensor = self.item_layers(inputs)
        if self.head is not None:
            return hidden
        vectors, added = self._finish(hidden), []
        if self.settings.score == "euclidean":
            square = vectors.square().sum(1, keepdim=True)
            added = [torch.ones_like(square), square]
        if self.settings.item_bias:
            added.append(hidden[:, -1:])
        return _beside(vectors, added)

    def _finish(self, hidden: Tensor) -> Tensor:
        vectors = hidden[:, : self.settings.product_width]
        if self.settings.normalize or self.settings.score == "cosine":
            vectors = F.normalize(vectors, dim=1)
        # Turning both sides' vectors changes no score, so training does without.
        return vectors if self.training else vectors @ self.rotation


def _beside(vectors: Tensor, added: list[Tensor]) -> Tensor:
    """Return vectors with what is added at their end; most have nothing, and are not copied."""
    return torch.cat([vectors, *added], dim=1) if added else vectors
