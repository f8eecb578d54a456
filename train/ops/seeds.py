"""Seeds of a run's parts, and random integers that depend on no other draw.

Every epoch, step, worker and example draws from a seed that follows from the run's seed and its
own number alone, so that a resumed run, or one with other workers, draws the same.
"""

from typing import TypeVar

from torch import Tensor

Seed = TypeVar("Seed", int, Tensor)

# A run's seed is below 2**20, so that no product of these leaves 64 bits.

# Numbers of epochs, of steps in an epoch and of history slots stay below it; it is prime, so that
# it shares no factor with a batch size or a history length that the numbers grow by.
BASE = 1_000_003
# A prime that numbers the workers of an epoch: there are never as many.
WORKERS = 1_009
# Another prime, apart from BASE: a seed must not shift the keys of examples onto one another's.
SEED_STEP = 7_368_787


def mix(seed: Seed, number: Seed | int, base: int = BASE) -> Seed:
    """Seed of part `number` of a whole that has a seed itself: `seed * base + number`.

    The sum alone would give epoch 2 of seed 0 the numbers of epoch 1 of seed 1. As digits in a base
    that is larger than every number, no two pairs of seed and number meet.

    Args:
        seed: of the whole; or int64 keys of any shape.
        number: of the part, from 0 and below `base`.
        base: how many numbers there can be.
    """
    return seed * base + number


def random_integers(keys: Tensor, seed: int, stream: int = 0) -> Tensor:
    """Hash each key to a non-negative int64, as if it were drawn with a generator of its own.

    Such a generator without a state (Salmon et al., SC 2011) gives an example the same numbers in
    any batch and on any worker. The hash is the finalizer of SplitMix64 (Steele et al., 2014).

    Args:
        keys: int64 of any shape, such as `mix` makes of example and slot. With several streams they
            leave the last digit to these, as `mix(key, 0)` does.
        seed: of the epoch.
        stream: another one gives the same keys other numbers.
    """
    value = keys + (seed * SEED_STEP + stream)
    value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    value = (value ^ ((value >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return (value ^ ((value >> 31) & 0x1FFFFFFFF)) & 0x7FFFFFFFFFFFFFFF
