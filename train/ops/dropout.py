"""Dropout whose random numbers do not cost more than the layers around it.

On a processor torch draws each number by itself, which takes a quarter of a DSSM's training step.
"""

import torch
from torch import Tensor, nn

STEPS = 1 << 16


class Dropout(nn.Dropout):
    """Set a share of the values to 0 in training, and scale the others to the same mean.

    On a processor 16 random bits decide on a value, so the share is the nearest multiple of
    1 / 65,536, and the scale that of the share itself; elsewhere it is torch's own (Srivastava et
    al., JMLR 2014).
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Drop out values of any shape."""
        if not self.training or not self.p or inputs.device.type != "cpu":
            return super().forward(inputs)
        return inputs * _scales(inputs, self.p)


def _scales(values: Tensor, share: float) -> Tensor:
    """Return 0 or `1 / (1 - share)` for each value, in its shape."""
    dropped = min(round(share * STEPS), STEPS - 1)
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64)
    words.random_(torch.iinfo(torch.int64).min, None)
    drawn = words.view(torch.int16)[: values.numel()].view(values.shape)
    kept = torch.ge(drawn, dropped - STEPS // 2, out=values.new_empty(values.shape))
    return kept.mul_(STEPS / (STEPS - dropped))
