"""Tiny files in the layouts of KION and of Amazon's reviews, with what is odd in the real ones."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

WATCHED = """\
user_id,item_id,last_watch_dt,total_dur,watched_pct
176549,9506,2021-05-11,4250,72.0
176549,10711,2021-05-12,12,
825,9506,2021-08-22,8317,100.0
"""
TITLES = """\
item_id,content_type,title,title_orig,release_year,genres,countries,for_kids,age_rating,studios,\
directors,actors,description,keywords
10711,film,Поговори с ней,Hable con ella,2002.0,"драмы, зарубежные, мелодрамы",Испания,,16.0,,\
Педро Альмодовар,"Адольфо Фернандес, Ана Фернандес","Мелодрама
легендарного Альмодовара","Поговори, ней, 2002"
9506,series,Голые перцы,,2014.0,комедии,"США, Канада",1.0,0.0,"HBO, Sony",,,О перцах,
"""  # noqa: RUF001
PEOPLE = """\
user_id,age,income,sex,kids_flg
176549,age_25_34,income_60_90,М,1
4711,,,,0
"""  # noqa: RUF001


def kion(folder: Path, ending: str = "") -> Path:
    """Write KION's three tables into a folder."""
    folder.mkdir()
    for name, text in (("interactions", WATCHED), ("items", TITLES), ("users", PEOPLE)):
        (folder / f"{name}{ending}.csv").write_text(text, encoding="utf-8")
    return folder


def kion_zip(path: Path) -> Path:
    """Write them as `data_original.zip`, whose members are in a folder."""
    folder = path.parent / "packed"
    folder.mkdir()
    kion(folder / "data_original")
    return Path(shutil.make_archive(str(path.with_suffix("")), "zip", folder))


REVIEWS: list[dict[str, Any]] = [
    {"overall": 5.0, "reviewerID": "A1V6B6TNIC10QE", "asin": "0143026860"},
    {"overall": 2.0, "verified": True, "reviewerID": "A2F5GHSXFQ0W6J", "asin": "0143026860"},
    {"overall": 4.0, "reviewerID": "A1V6B6TNIC10QE", "asin": "014789302X", "vote": "3"},
]
PRODUCTS: list[dict[str, Any]] = [
    {
        "category": ["Beauty", "Hair &amp; Care"],
        "description": ["Loud", ""],
        "title": "Loud Stress",
        "also_buy": ["B000052YAN"],
        "brand": "",
        "rank": "2,938,573 in Beauty",
        "price": "$1,044.99 - $2,000.00",
        "details": {"ASIN: ": "0143026860"},
        "asin": "0143026860",
    },
    {
        "category": [],
        "title": "var aPageStart = (new Date()).getTime();",
        "brand": "No7",
        "rank": ["#1 in Beauty"],
        "price": ".a-box-inner{background-color:#fff}",
        "asin": "014789302X",
    },
    {"category": ["Twice"], "title": "Twice", "price": "", "asin": "0143026860"},
]
PRODUCTS_2014: list[dict[str, Any]] = [
    {"asin": "014789302X", "title": "Brush &amp; Set", "salesRank": {"Beauty": 402875}},
    {
        "asin": "0143026860",
        "categories": [["Beauty", "Hair"], ["Home"]],
        "brand": "No7",
        "price": 3.17,
    },
]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write an object a line, gzipped where the name says so."""
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def reviews(path: Path) -> Path:
    """Write reviews; those of 2014 and 2018 have the same fields."""
    timed = [row | {"unixReviewTime": 1424304000 + n} for n, row in enumerate(REVIEWS)]
    return lines(path, timed)


def amazon_2018(folder: Path) -> dict[str, Any]:
    """Write reviews and products as of 2018; return both as settings."""
    return {
        "reviews": reviews(folder / "All_Beauty.json.gz"),
        "products": lines(folder / "meta_All_Beauty.json.gz", PRODUCTS),
    }


def amazon_2014(folder: Path) -> dict[str, Any]:
    """Write reviews and products as of 2014, made valid JSON; return both as settings."""
    return {
        "reviews": reviews(folder / "reviews_Beauty_5.json.gz"),
        "products": lines(folder / "meta_Beauty.json", PRODUCTS_2014),
    }
