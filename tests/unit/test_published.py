"""MovieLens-20M, KION and Amazon from tiny files in their published formats."""

from pathlib import Path
from typing import Any

import pytest

from tests import small_movielens, small_published
from train.data.encoded import encode
from train.datasets.amazon import Amazon
from train.datasets.base import Dataset
from train.datasets.files import Files
from train.datasets.kion import Kion
from train.datasets.movielens import MovieLens20M, MovieLens100k


def rows(dataset: Dataset) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in dataset.load().interactions.to_pylist()]


def test_movielens_20m_has_the_items_of_the_older_ones_and_no_people(tmp_path: Path) -> None:
    older = MovieLens100k(path=small_movielens.grouplens_100k(tmp_path / "old.zip")).load()
    dataset = MovieLens20M(path=small_movielens.grouplens_20m(tmp_path / "new.zip"))
    tables = dataset.load()
    assert tables.items.drop(["genres"]).equals(older.items.drop(["genres"]))
    genres = [["Action"], ["Action", "Children's"], ["Children's"], None]
    assert tables.items["genres"].to_pylist() == genres
    assert rows(dataset) == [(u, i, t, w - 0.5) for u, i, w, t in small_movielens.RATINGS]
    assert tables.users.to_pydict() == {"user_id": [1, 2]}
    assert len(encode(tables).item_features.vocabulary) == 2


def test_movielens_20m_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file '.*ml-20m.zip'"):
        MovieLens20M(path=tmp_path / "ml-20m.zip").load()
    (tmp_path / "ml-20m.zip").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"ml-20m.zip: expected sha256 96f243c3.*; delete it"):
        MovieLens20M(folder=tmp_path).load()
    path = small_movielens.grouplens_1m(tmp_path / "ml.zip")
    with pytest.raises(ValueError, match=r"no table 'ratings.csv' in it; it has: ml-1m/movies.dat"):
        MovieLens20M(path=path).load()


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: small_published.kion(folder / "data_original"),
        lambda folder: small_published.kion(folder / "data_en", ending="_en"),
        lambda folder: small_published.kion_zip(folder / "data_original.zip"),
    ],
    ids=["folder", "translated", "zip"],
)
def test_kion_from_its_folder_or_zip(write: Any, tmp_path: Path) -> None:
    dataset = Kion(path=write(tmp_path))
    tables = dataset.load()
    assert rows(dataset) == [
        (176549, 9506, 1620691200, 4250.0),
        (176549, 10711, 1620777600, 12.0),
        (825, 9506, 1629590400, 8317.0),
    ]
    first, second = tables.items.to_pylist()
    assert first["genres"] == ["драмы", "зарубежные", "мелодрамы"]
    assert first["description"] == "Мелодрама\nлегендарного Альмодовара"  # noqa: RUF001
    assert (first["for_kids"], first["age_rating"], first["studios"]) == (None, 16.0, [])
    assert (second["release_year"], second["for_kids"]) == (2014.0, 1.0)
    assert second["countries"] == ["США", "Канада"]
    assert tables.users.to_pylist()[1] == {
        "user_id": 4711,
        "age": None,
        "income": None,
        "sex": None,
        "kids_flg": False,
    }
    assert encode(tables).users.ids.to_pylist() == [825, 4711, 176549]


def test_kion_leaves_out_what_was_watched_for_seconds(tmp_path: Path) -> None:
    path = small_published.kion(tmp_path / "data_original")
    assert [row[3] for row in rows(Kion(path=path, min_weight=300))] == [4250.0, 8317.0]


def test_kion_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file or folder '.*absent' \(data.path\)"):
        Kion(path=tmp_path / "absent").load()
    (tmp_path / "no.zip").write_text("no zip")
    with pytest.raises(ValueError, match=r"expected data_original.zip or its folder"):
        Kion(path=tmp_path / "no.zip").load()
    folder = small_published.kion(tmp_path / "data")
    (folder / "users.csv").unlink()
    with pytest.raises(ValueError, match=r"one table users.csv, found interactions.csv, items"):
        Kion(path=folder).load()


def test_amazon_of_2018(tmp_path: Path) -> None:
    dataset = Amazon(**small_published.amazon_2018(tmp_path))
    assert rows(dataset) == [
        ("A1V6B6TNIC10QE", "0143026860", 1424304000, 5.0),
        ("A2F5GHSXFQ0W6J", "0143026860", 1424304001, 2.0),
        ("A1V6B6TNIC10QE", "014789302X", 1424304002, 4.0),
    ]
    first, second = dataset.load().items.to_pylist()
    assert first["price"] == pytest.approx(1044.99)
    assert {k: v for k, v in first.items() if k != "price"} == {
        "item_id": "0143026860",
        "title": "Loud Stress",
        "title_text": "Loud Stress",
        "brand": None,
        "categories": ["Beauty", "Hair &amp; Care"],
    }
    assert (second["title"], second["brand"], second["price"]) == (None, "No7", None)
    assert second["categories"] == []


def test_amazon_of_2014(tmp_path: Path) -> None:
    dataset = Amazon(**small_published.amazon_2014(tmp_path))
    assert len(rows(dataset)) == 3
    first, second = dataset.load().items.to_pylist()
    assert (first["title"], first["categories"], first["price"]) == ("Brush & Set", [], None)
    assert second["categories"] == ["Beauty", "Hair", "Home"]
    assert second["price"] == pytest.approx(3.17)
    assert len(encode(dataset.load()).items) == 2


def test_amazon_without_products_has_items_that_are_ids(tmp_path: Path) -> None:
    tables = Amazon(reviews=small_published.reviews(tmp_path / "All_Beauty.json")).load()
    assert tables.items.to_pydict() == {
        "item_id": ["0143026860", "014789302X"],
        "title": [None] * 2,
    }
    assert len(encode(tables).users) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'asin': '1', 'title': 'x'}", r"a JSON object a line: .*json.dumps\(ast.literal_eval"),
        ('{"parent_asin": "1"}', "no field 'asin' in its first line; it has: parent_asin"),
        ('{"asin": "1", "overall": "five"}', "cannot be read as JSON lines: "),
        (
            '{"asin": "1", "reviewerID": "u", "overall": 5.0}',
            r"column 'unixReviewTime' \(1 rows\): expected a value; 1 is not: ",
        ),
    ],
)
def test_amazon_says_what_is_wrong_with_a_file(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "reviews.json").write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        Amazon(reviews=tmp_path / "reviews.json").load()


def test_amazon_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file '.*reviews.json'; looked for /"):
        Amazon(reviews=tmp_path / "reviews.json").load()


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            Kion(),
            r"kion is not fetched by itself: get data_original.zip .*, and set data.path",
        ),
        (Amazon(), r"get the reviews of a category from .*, and set data.reviews to it"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_is_not_fetched_has_to_be_given(dataset: Dataset, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataset.load()


def test_an_order_without_times_is_a_timestamp(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(
        "user_id,item_id,position\nA1,B2,0\nA1,B1,1\nA1,B3,2\nA2,B1,0\n"
    )
    (tmp_path / "items.csv").write_text("item_id,price,categories\nB1,,Beauty|Hair\nB2,5.5,\n")
    dataset = Files(
        interactions=str(tmp_path / "events.csv"),
        items=str(tmp_path / "items.csv"),
        timestamp="position",
        timestamp_unit="order",
        item_columns={"price": "number", "categories": "categories"},
    )
    tables = dataset.load()
    data = encode(tables)
    # Users ascend, and each one's items are in their order; B3 is without attributes.
    assert data.items.external(data.interactions.item) == ["B2", "B1", "B3", "B1"]
    assert data.interactions.timestamp.tolist() == [0, 1, 2, 0]
    assert data.item_features.dense_names == ("price_0", "price_1")
    assert data.item_features.dense[:, 1].tolist() == [1.0, 0.0, 1.0]
    assert data.item_features.categories.lengths.tolist() == [2, 0, 0]
