"""The module behind every tower: looked-up rows, layers over them, vectors of users and items.

Shapes: B users, M items asked for, m items looked up, h history length, N items in all histories of
a batch, w width of an item's looked-up row, d width of the vectors.
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
    """Both sides of a tower; indices in, vectors out.

    Attributes:
        item_embedding: class of the module that looks up items.
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
        # With several workers every parameter has to be used, so unused layers are not made.
        layers = settings.build_layers()
        self.history, self.joined = layers.history, layers.joined
        self.user_layers, self.item_layers = layers.user, layers.item
        self.head = layers.head
        self.rotation: Tensor
        self.register_buffer("rotation", torch.eye(settings.product_width))

    def id_tables(self) -> list[nn.Embedding]:
        """Return the id tables of users and items that there are."""
        return [side.id for side in (self.user_input, self.item_input) if side.id is not None]

    @property
    def device(self) -> torch.device:
        """Where the parameters and tables are."""
        return self.rotation.device

    def forward(self, users: Tensor, history: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Encode users `[B]` with histories `[B, h]` and items `[M]`: `[B, d]` and `[M, d]`.

        Every distinct item is looked up once, however often it stands in the histories, and goes
        through its layers once, however often it is asked for.
        """
        index = torch.cat([items, history.flatten().clamp(min=0)])
        inputs, position = self._distinct(index)
        place = position[len(items) :].view_as(history)
        vectors = self.users_in_batch(users, inputs, place, history >= 0)
        asked, which = torch.unique(position[: len(items)], return_inverse=True)
        return vectors, F.embedding(which, self.item_vectors(F.embedding(asked, inputs)))

    def encode_users(
        self,
        users: Tensor,
        history: Tensor,
        attributes: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Encode users `[B]` (-1 unknown) with histories `[B, h]` (-1 padded): `[B, d]`.

        Args:
            users: indices.
            history: their items.
            attributes: instead of the stored ones, as `SideEmbedding.with_attributes` takes them.
        """
        inputs, place = self._distinct(history.flatten().clamp(min=0))
        side = self.user_input
        looked_up = side(users) if attributes is None else side.with_attributes(users, *attributes)
        return self.user_vectors(looked_up, inputs, place.view_as(history), history >= 0)

    def encode_items(self, items: Tensor) -> Tensor:
        """Encode items `[M]`: `[M, d]`."""
        return self.item_vectors(self.item_input(items))

    def _distinct(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the looked-up rows of the distinct items of an index, and the place of each."""
        if len(index) >= self.item_input.count and not self.item_input.is_sparse:
            return self.item_input.everything(), index
        distinct, position = torch.unique(index, return_inverse=True)
        return self.item_input(distinct), position

    def users_in_batch(
        self, users: Tensor, inputs: Tensor, place: Tensor, present: Tensor
    ) -> Tensor:
        """Return the vectors of users `[B]` in `forward`; the rest is as in `user_vectors`."""
        return self.user_vectors(self.user_input(users), inputs, place, present)

    def user_vectors(self, users: Tensor, inputs: Tensor, place: Tensor, present: Tensor) -> Tensor:
        """Return the vectors of users from the looked-up rows of them and of their items, `[B, d]`.

        Args:
            users: looked up, `[B, d]`.
            inputs: looked up of items, `[m, w]`.
            place: of the histories' items in `inputs`, oldest first, `[B, h]`.
            present: False for padding, bool `[B, h]`.
        """
        hidden = self.user_layers(users)
        if self.history is not None:
            hidden = hidden + self.history(inputs, place, present)
        return self.finish_users(hidden)

    def finish_users(self, hidden: Tensor) -> Tensor:
        """Return the vectors of users from the sum of their rows and histories, `[B, d]`."""
        joined: Tensor = self.joined(hidden)
        if self.head is not None:
            return joined
        vectors, added = self._scaled_and_rotated(joined), []
        if self.settings.score == "euclidean":
            # -|u - v|^2 is the inner product of [2u, -|u|^2, -1] and [v, 1, |v|^2].
            square = vectors.square().sum(1, keepdim=True)
            vectors, added = 2 * vectors, [-square, -torch.ones_like(square)]
        if self.settings.item_bias:
            # The factor of an item's bias, which is the last element of the item's vector.
            added.append(torch.ones_like(vectors[:, :1]))
        return _with_columns(vectors, added)

    def item_vectors(self, inputs: Tensor) -> Tensor:
        """Return the vectors of items from their looked-up rows, `[M, w] -> [M, d]`."""
        hidden: Tensor = self.item_layers(inputs)
        if self.head is not None:
            return hidden
        vectors, added = self._scaled_and_rotated(hidden), []
        if self.settings.score == "euclidean":
            square = vectors.square().sum(1, keepdim=True)
            added = [torch.ones_like(square), square]
        if self.settings.item_bias:
            added.append(hidden[:, -1:])
        return _with_columns(vectors, added)

    def _scaled_and_rotated(self, hidden: Tensor) -> Tensor:
        vectors = hidden[:, : self.settings.product_width]
        if self.settings.normalize or self.settings.score == "cosine":
            vectors = F.normalize(vectors, dim=1)
        # Rotating both sides' vectors changes no score, so training does without.
        return vectors if self.training else vectors @ self.rotation


def _with_columns(vectors: Tensor, columns: list[Tensor]) -> Tensor:
    """Append columns to vectors; most towers have none, and nothing is copied then."""
    return torch.cat([vectors, *columns], dim=1) if columns else vectors
