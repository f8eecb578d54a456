"""Dropout whose random numbers do not cost more than the layers around it.

On a CPU torch draws each number by itself, which takes a quarter of a DSSM's training step.
"""

import torch
from torch import Tensor, nn

# Values that 16 random bits can have.
STEPS = 1 << 16


class Dropout(nn.Dropout):
    """Set values to 0 with probability p in training, and scale the others to the same mean.

    On a CPU 16 random bits decide on a value, so p is rounded to a multiple of 1 / 65,536, and the
    scale is that of the rounded p; elsewhere it is torch's own (Srivastava et al., JMLR 2014).
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Drop out values of any shape."""
        if not self.training or not self.p or inputs.device.type != "cpu":
            return super().forward(inputs)
        return inputs * _scales(inputs, self.p)


def _scales(values: Tensor, probability: float) -> Tensor:
    """Return 0 or `1 / (1 - probability)` for each value, in its shape."""
    dropped = min(round(probability * STEPS), STEPS - 1)
    # One draw of 64 bits decides on four values.
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64)
    words.random_(torch.iinfo(torch.int64).min, None)
    drawn = words.view(torch.int16)[: values.numel()].view(values.shape)
    kept = torch.ge(drawn, dropped - STEPS // 2, out=values.new_empty(values.shape))
    return kept.mul_(STEPS / (STEPS - dropped))
