"""Batches: whom they are for, that each answer is the one of the service, and the database."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import sqlalchemy as sa

from serve.batch.answers import answered
from serve.batch.command import main
from serve.batch.database import target
from serve.batch.folder import finish, left, part_name, prepare, read_part, summary, write_part
from serve.batch.users import users_of
from tests.bundles import make_recommender, write_bundle
from tests.unit.test_rules import SYSTEMS
from train.data.statistics import DAY
from train.recommender.answers import recommend
from train.recommender.requests import Request

ASKED: dict[str, dict[str, Any]] = {
    "plain": {},
    "more than there are candidates": {"k": 70},
    "short": {"k": 300},
    "filter": {"filter": {"sale": {"eq": True}}, "k": 20},
    "nothing is left": {"allow": [9999]},
    "seen": {"seen": "allow"},
    "at most": {"max_per": {"brand": 1}, "fields": ["brand", "tags"]},
    "pinned": {"pin": [{"item_id": 17, "position": 2}], "diversity": 0.3},
    "explained": {"explain": True},
}
NAMES = {"retrieval_score", "retrieval_rank", "ranking_score", "similar_to", "proposed_by"}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", ASKED)
def test_each_user_gets_what_the_service_answers(system: str, name: str) -> None:
    recommender, request = SYSTEMS[system], Request(**ASKED[name])
    users = [1040, 7, *range(1000, 1030)]  # 7 is unknown
    made = answered(recommender, pa.array(users), request)
    told = [recommend(recommender, [Request(user_id=u, **ASKED[name])])[0] for u in users]
    wanted = [
        {"user_id": user, "rank": rank, **expected(item), "source": answer["source"]}
        for user, answer in zip(users, told, strict=True)
        for rank, item in enumerate(answer["items"], 1)
    ]
    got = made.table.to_pylist()
    assert got == [dict.fromkeys(made.table.column_names) | row for row in wanted]
    assert made.counts == {
        "items": len(wanted),
        "popular_users": 1,
        "short_users": sum("short" in answer for answer in told),
    }
    assert set(made.table.column_names) >= NAMES or not request.explain


def expected(item: dict[str, Any]) -> dict[str, Any]:
    """The columns of an item, of an answer's entry."""
    told = {name: value for name, value in item.items() if name not in ("title", "fields")}
    if "fields" in item:
        told["fields"] = json.dumps(item["fields"])
    return told


def test_lists_have_the_rows_of_each_user() -> None:
    recommender, users = SYSTEMS["both stages"], pa.array([1003, 1001])
    rows = answered(recommender, users, Request(k=3)).table.to_pylist()
    for shape in answered(recommender, users, Request(k=3), "lists").table.to_pylist():
        own = [row for row in rows if row["user_id"] == shape["user_id"]]
        assert shape["item_id"] == [row["item_id"] for row in own]
        assert shape["score"] == [row["score"] for row in own]
        assert shape["source"] == "personal"


def test_users_are_all_the_active_ones_or_those_of_a_file(tmp_path: Path) -> None:
    recommender = make_recommender(users=50, items=60, reranked=False)
    assert users_of(recommender, "all").to_pylist() == list(range(1000, 1050))
    known = recommender.statistics
    since = known.as_of - 2 * DAY
    recent = [1000 + at for at in range(50) if known.user_last[at] >= since]
    assert 0 < len(recent) < 50
    assert users_of(recommender, "active:2d").to_pylist() == recent
    table = pa.table({"name": ["a", "b", "c"], "user_id": [1007, 1003, 5]})
    pyarrow.parquet.write_table(table, tmp_path / "some.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "some.csv")
    (tmp_path / "some.tsv").write_text("user_id\tx\n1007\t\n1003\t2\n5\t\n")
    for file in ("some.parquet", "some.csv", "some.tsv"):
        assert users_of(recommender, str(tmp_path / file)).to_pylist() == [1007, 1003, 5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user_id,x\n1007,1\nx3,2\n", "integers, got string: 'x3'"),
        ("user_id,x\n1007,1\n007,2\n", "integers, got string: '007'"),
        ("user_id,x\n1007,1\n,2\n", "user_id is missing in row 2"),
        ("user,x\n1007,1\n", "expected a column user_id; it has user, x"),
        ("user_id,x\n1007,1\n1007,2\n", "1 of 2 ids repeat others"),
        ("user_id,x\n", "there is none"),
    ],
)
def test_a_file_of_users_that_says_nothing_clear_is_refused(
    content: str, message: str, tmp_path: Path
) -> None:
    recommender = make_recommender(users=10, items=60, reranked=False)
    (tmp_path / "users.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        users_of(recommender, str(tmp_path / "users.csv"))


def test_text_ids_stay_text(tmp_path: Path) -> None:
    recommender = make_recommender(users=10, items=60, reranked=False, text_ids=True)
    file = tmp_path / "users.csv"
    file.write_text("user_id\nid-0001003\n17\n")
    assert users_of(recommender, str(file)).to_pylist() == ["id-0001003", "17"]
    pyarrow.parquet.write_table(pa.table({"user_id": [17]}), tmp_path / "users.parquet")
    with pytest.raises(ValueError, match="text, got int64: 17"):
        users_of(recommender, str(tmp_path / "users.parquet"))


def test_a_folder_is_of_one_batch(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert prepare(out, {"k": 3}, 100)["users_per_part"] == 100
    # What is there says how large parts are, whatever the machine of now would take.
    assert prepare(out, {"k": 3}, 7)["users_per_part"] == 100
    with pytest.raises(ValueError, match="k is 3 there, and now 4"):
        prepare(out, {"k": 4}, 100)
    write_part(out, 1, pa.table({"user_id": [1]}), {"items": 5, "short_users": 1})
    assert left(out, 3) == [0, 2]
    write_part(out, 0, pa.table({"user_id": [1]}), {"items": 6, "short_users": 0})
    assert summary(out, 2) == {"parts": 2, "items": 11, "short_users": 1}
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"has mine.txt in it"):
        prepare(str(other), {"k": 3}, 100)


def batch(out: str, users: list[int], per_part: int) -> dict[str, Any]:
    """Write a complete batch, and return its manifest."""
    parts = [users[at : at + per_part] for at in range(0, len(users), per_part)]
    for number, part in enumerate(parts):
        made = answered(SYSTEMS["both stages"], pa.array(part), Request(k=4))
        write_part(out, number, made.table, made.counts)
    manifest = {"users": len(users), **summary(out, len(parts))}
    finish(out, manifest)
    return manifest


def test_a_table_is_replaced_all_at_once_and_a_load_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    old = batch(first, list(range(1000, 1010)), 10)
    new = batch(second, list(range(1000, 1030)), 7)
    with target(url, "picks") as place:
        place.load(first, old)
        assert rows_of(place.engine) == part_rows(first, old)
        # It is killed in its third part: the old table is there as it was.
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("serve.batch.database.read_part", dies_at(2))
            place.load(second, new)
        assert rows_of(place.engine) == part_rows(first, old)
        read: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr("serve.batch.database.read_part", noting(read))
            place.load(second, new)
        # The first one is looked at for its columns.
        assert read == [0, 2, 3, 4]
        assert rows_of(place.engine) == part_rows(second, new)
        assert sa.inspect(place.engine).get_table_names() == ["picks"]


def dies_at(number: int) -> Any:
    def read(out: str, part: int) -> pa.Table:
        if part == number:
            raise KeyboardInterrupt
        return read_part(out, part)

    return read


def noting(parts: list[int]) -> Any:
    def read(out: str, part: int) -> pa.Table:
        parts.append(part)
        return read_part(out, part)

    return read


def rows_of(engine: sa.Engine) -> list[tuple[Any, ...]]:
    table = sa.Table("picks", sa.MetaData(), autoload_with=engine)
    order = table.c.user_id, table.c.rank
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(table).order_by(*order))]


def part_rows(out: str, manifest: dict[str, Any]) -> list[tuple[Any, ...]]:
    tables = [read_part(out, number) for number in range(manifest["parts"])]
    return [tuple(row.values()) for row in pa.concat_tables(tables).to_pylist()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenario", "cheap"], "expected both, or neither"),
        (["--users", "some"], "expected all, active:30d, a .parquet file"),
        (["--database", "nowhere"], "expected a URL of SQLAlchemy"),
        (["--database", "sqlite://", "--shape", "lists"], "takes --shape rows, not lists"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    words: list[str], message: str, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path, users=30, items=60)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=message):
        main([str(bundle), "--out", str(out), *words])
    assert not out.exists()


def test_a_folder_of_somebody_else_is_left_as_it_was(tmp_path: Path) -> None:
    bundle, out = write_bundle(tmp_path, users=30, items=60), tmp_path / "mine"
    (out / "deep").mkdir(parents=True)
    files = [out / "notes.txt", out / "deep" / ".draft-1", out / ".a.part"]
    for file in files:
        file.write_text("mine")
    with pytest.raises(ValueError, match=r"has (deep|notes.txt) in it"):
        main([str(bundle), "--out", str(out)])
    assert sorted(file for file in out.rglob("*") if file.is_file()) == sorted(files)


def test_a_part_has_the_name_that_readers_expect(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    prepare(out, {"k": 3}, 100)
    manifest = batch(out, list(range(1000, 1010)), 4)
    assert (tmp_path / "out" / part_name(0)).exists()
    table = pyarrow.parquet.read_table(out)
    assert len(table) == manifest["items"] == 40
