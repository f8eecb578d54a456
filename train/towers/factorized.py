"""Factorizations as towers: the baselines that have vectors, served as any other tower.

Shapes: U users, I items, B users asked for, h history length, m items looked up, d width.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, create_model, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from train.baselines import BASELINES
from train.baselines.factorizations import Factorization
from train.core.ragged import Ragged
from train.core.schema import Interactions
from train.data.encoders import Features
from train.data.snapshot import TowerInputs
from train.towers.base import Parts, Tower, TwoTowerModel
from train.towers.encode import encode_users

# What a factorization has no choice of: its vectors are of ids, and their inner product ranks.
FIXED: Mapping[str, Any] = {
    "user_id": True,
    "item_id": True,
    "user_attributes": False,
    "item_attributes": False,
    "dropout": 0.0,
    "normalize": False,
    "item_bias": False,
    "score": "dot",
}


class Factorized(Tower):
    """A baseline's vectors; beside `width` and `history` its settings are those of the baseline.

    The vector of a user is that of the baseline, moved by what the history has become since: by the
    difference of what the baseline folds in from the newest `history` items now, and what it did
    from those known in training. A user unknown then is what is folded in.
    """

    at_once: ClassVar[bool] = True
    of: ClassVar[type[Factorization]]

    name: str
    user_attributes: bool = False
    item_attributes: bool = False

    @model_validator(mode="after")
    def _it_is_vectors_of_ids(self) -> "Factorized":
        for key, value in FIXED.items():
            if getattr(self, key) != value:
                raise ValueError(
                    f"{key}: expected {value}, for {self.name} learns a vector for each id and "
                    f"ranks by inner products, got {getattr(self, key)}; leave it out"
                )
        return self

    def baseline(self) -> Factorization:
        """Return the baseline that it is."""
        shared = self.of.model_fields.keys() - {self.of.size}
        settings = {name: getattr(self, name) for name in shared}
        return self.of.model_validate({self.of.size: self.width - self.of.beyond, **settings})

    def check(self, items: int, features: Features) -> None:
        """Check what the baseline does."""
        try:
            self.baseline().check(items, features)
        except ValueError as error:
            raise ValueError(f"{error}: that is tower.width") from error

    def parts(self) -> Parts:
        """Ids are the vectors; what is folded in from the history is added to that of the user."""
        history = FoldIn(self.baseline(), self.width) if self.history else None
        return Parts(history, nn.Identity(), nn.Identity(), nn.Identity())

    @torch.no_grad()
    def fit(
        self, model: TwoTowerModel, inputs: TowerInputs, known: Interactions, seed: int
    ) -> None:
        """Factorize as the baseline does; ids of users hold what is not folded in of them."""
        histories = Ragged.from_pairs(known.user, known.item, len(inputs.warm_users))
        users, items = self.baseline().vectors(known, inputs, seed)
        _set(model.user_input.id, np.zeros_like(users))
        _set(model.item_input.id, items)
        if isinstance(model.history, FoldIn):
            model.history.folding.copy_(self.baseline().folding(items))
        _set(model.user_input.id, users - encode_users(model, np.arange(len(users)), histories))


class FoldIn(nn.Module):
    """What a factorization makes of a user's items: `[m, d]`, places, presence -> `[B, d]`."""

    def __init__(self, baseline: Factorization, width: int) -> None:
        super().__init__()
        self.baseline = baseline
        self.folding: Tensor
        self.register_buffer("folding", torch.eye(width))

    def forward(self, inputs: Tensor, place: Tensor, present: Tensor) -> Tensor:
        """Fold in the rows of `inputs` at `place` `[B, h]` where `present`.

        An item counts once, and only if it has a vector.
        """
        known = present & (inputs != 0).any(1)[place]
        ordered = torch.where(known, place, -1).sort(1).values
        before = F.pad(ordered, (1, 0), value=-1)[:, :-1]
        first = (ordered >= 0) & (ordered != before)
        return self.baseline.fold_in(inputs, ordered.clamp(min=0), first, self.folding)


def _set(embedding: nn.Embedding | None, vectors: Any) -> None:
    """Set the rows of an embedding but for the last, which stands for whoever is unknown."""
    assert embedding is not None
    embedding.weight[:-1] = torch.as_tensor(vectors)


def tower_of(baseline: type[Factorization]) -> type[Factorized]:
    """Return the settings of a baseline as those of a tower; `width` is how wide its vectors are.

    Left out, it is as wide as the baseline's are by default.
    """
    fields = baseline.model_fields
    name = fields["name"].default
    width = fields[baseline.size].default + baseline.beyond
    own: dict[str, Any] = {key: (of.annotation, of) for key, of in fields.items()}
    del own[baseline.size]
    own["name"] = (Literal[name], name)
    own["width"] = (int, Field(default=width, ge=1 + baseline.beyond))
    tower = create_model(
        f"{baseline.__name__}Tower",
        __base__=Factorized,
        __module__=__name__,
        __doc__=baseline.__doc__,
        **own,
    )
    tower.of = baseline
    return tower


FACTORIZED: Mapping[str, type[Factorized]] = {
    name: tower_of(entry) for name, entry in BASELINES.items() if issubclass(entry, Factorization)
}
# Settings that travel to another process are looked up there by the name of their class.
globals().update({tower.__name__: tower for tower in FACTORIZED.values()})
