"""What a sweep's winner differs by from the run that it varies."""

from tune.outcome import differing


def test_what_differs_is_told_and_a_table_of_another_name_is_whole() -> None:
    base = {
        "name": "a",
        "seed": 0,
        "tower": {"name": "two_tower", "width": 4, "dropout": 0.0},
        "loss": {"name": "bpr", "count": 1},
        "sources": [1],
    }
    table = {
        "name": "b",
        "seed": 0,
        "tower": {"name": "two_tower", "width": 8, "dropout": 0.0},
        "loss": {"name": "softmax", "temperature": 1},
        "sources": [1, 2],
    }
    assert differing(base, table) == {
        "name": "b",
        "tower": {"name": "two_tower", "width": 8},
        "loss": {"name": "softmax", "temperature": 1},
        "sources": [1, 2],
    }
    assert differing(base, base) == {}
    assert differing(base, {**base, "tower": {"name": "two_tower", "width": 4}}) == {
        "tower": {"name": "two_tower", "dropout": None}
    }
