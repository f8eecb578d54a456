"""The tower `history_transformer`."""

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from train.core.schema import Interactions
from train.data.snapshot import TowerInputs
from train.towers.base import Tower, TowerLayers
from train.towers.batches import Batch, Examples, Sampling, Unit, window_batch, windows
from train.towers.model import TwoTowerModel
from train.towers.transformer import Block, Transformer, check_heads


class HistoryTransformer(Tower):
    """Causal transformer over a user's history in order, trained on every position of it.

    SASRec (Kang and McAuley, ICDM 2018), or with the block "ligr" eSASRec (RecSys 2025); the item
    side is that of the other towers, so attributes count. An example is a window of `history`
    consecutive interactions of a user.

    Attributes:
        blocks: layers of attention.
        heads: of each.
        block: "sasrec" or "ligr".
    """

    name: Literal["history_transformer"] = "history_transformer"
    user_id: bool = False
    user_attributes: bool = False
    history: int = Field(default=100, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    block: Block = "sasrec"

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "HistoryTransformer":
        check_heads(self.width, self.heads)
        return self

    @property
    def reads_order(self) -> bool:
        """Whether histories are read in their order, as they are."""
        return True

    def build_layers(self) -> TowerLayers:
        """Items are their inputs, so that attention and ranking share one table of vectors."""
        options = self.blocks, self.heads, self.dropout, self.block
        history = Transformer(self.width, self.history, *options)
        return TowerLayers(history, nn.Identity(), nn.Identity(), nn.Identity())

    def build(self, inputs: TowerInputs) -> TwoTowerModel:
        """Return a freshly initialized module over these tables."""
        return HistoryTransformerModel(self, inputs)

    def check_training(self, unit: Unit, context: str) -> None:
        """Refuse users as examples."""
        if unit == "users":
            raise ValueError(
                "train.examples: history_transformer learns from whole histories; expected "
                "'interactions', got 'users'"
            )

    def count_examples(self, interactions: Interactions, unit: Unit) -> int:
        """Return the number of users: few have more windows than one."""
        return super().count_examples(interactions, "users")

    def training_examples(self, data: Examples, unit: Unit) -> Tensor:
        """Return the last interaction of each window, `[E]`."""
        examples = windows(data, self.history)
        if not len(examples):
            raise ValueError(
                "a tower that learns from sequences needs users with 2 training interactions or "
                "more; found none: choose another tower, or another split"
            )
        return examples

    def training_batch(self, data: Examples, step: Tensor, sampling: Sampling) -> Batch:
        """Return a worker's part of a step's windows; `train.context` does not matter to them."""
        return window_batch(data, step, sampling, self.history)


class HistoryTransformerModel(TwoTowerModel):
    """The module of a history transformer: in training a user has a vector at each item."""

    def users_in_batch(
        self, users: Tensor, inputs: Tensor, place: Tensor, present: Tensor
    ) -> Tensor:
        """Return a user vector at each item of the histories, `[N, d]`, row by row."""
        if not self.training:
            return super().users_in_batch(users, inputs, place, present)
        assert self.history is not None
        repeated = self.user_input(users.repeat_interleave(present.sum(1)))
        states: Tensor = self.history(inputs, place, present, every=True)
        return self.finish_users(self.user_layers(repeated) + states)
