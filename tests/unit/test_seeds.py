"""Seeds of parts never meet, and hashed integers are those of SplitMix64, in any batch."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from train.ops.seeds import BASE, WORKERS, mix, random_integers

SEEDS = st.integers(0, 2**40)
NUMBERS = st.integers(0, WORKERS - 1)
KEYS = st.lists(st.integers(0, 2**40), min_size=1, max_size=20)


@given(SEEDS, SEEDS, NUMBERS, NUMBERS, st.sampled_from([BASE, WORKERS]))
def test_no_two_pairs_of_seed_and_number_meet(
    seed: int, other: int, number: int, another: int, base: int
) -> None:
    met = mix(seed, number, base) == mix(other, another, base)
    assert met == ((seed, number) == (other, another))


def splitmix(value: int) -> int:
    """Finalize 64 bits as Steele et al. (2014) do, and drop the sign bit."""
    value &= 2**64 - 1
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return (value ^ (value >> 31)) & (2**63 - 1)


@given(KEYS, SEEDS, st.integers(0, 2))
def test_keys_are_hashed_one_by_one(keys: list[int], seed: int, stream: int) -> None:
    hashed = random_integers(torch.tensor(keys), seed, stream)
    assert hashed.tolist() == [splitmix(key + seed * 7_368_787 + stream) for key in keys]


def test_streams_of_the_same_keys_are_independent() -> None:
    """Each bit of one agrees with that of another in half of the keys, within 5 deviations."""
    keys = mix(torch.arange(10_000), 0)

    def bits(stream: int, seed: int) -> Tensor:
        return random_integers(keys, seed, stream)[:, None] >> torch.arange(63) & 1

    draws = [bits(stream, seed) for seed in (0, 1) for stream in (0, 1, 2)]
    pairs = [(one, other) for place, one in enumerate(draws) for other in draws[:place]]
    agreed = torch.stack([(one == other).double().mean(0) for one, other in pairs])
    assert (agreed - 0.5).abs().max() < 5 * 0.5 / len(keys) ** 0.5
