"""Sets of integers by sorting are those of numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.core.keys import distinct, is_in

integers = st.lists(st.integers(-5, 9)).map(lambda values: np.array(values, dtype=np.int64))


@given(integers, integers)
def test_sets_are_those_of_numpy(some, others):
    assert distinct(some).tolist() == np.unique(some).tolist()
    assert is_in(some, others).tolist() == np.isin(some, others).tolist()
