"""The module behind every tower: looked-up embeddings, layers, vectors of users and items.

Shapes: B batch, M items asked for, m distinct items looked up, h history length, w width of an
item's looked-up row, d width of the vectors.
"""

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.data.snapshot import TowerInputs
from train.towers.embeddings import SideEmbedding

if TYPE_CHECKING:
    from train.towers.base import Tower


class TwoTowerModel(nn.Module):
    """The module behind every tower; indices in, vectors out.

    Attributes:
        item_embedding: what looks up items.
    """

    item_embedding: ClassVar[type[SideEmbedding]] = SideEmbedding

    def __init__(self, settings: "Tower", inputs: TowerInputs) -> None:
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
