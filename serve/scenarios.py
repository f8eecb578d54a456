"""Scenarios: rules with a name, in a TOML file, so that clients send the name.

[homepage]
filter = { genres = { any = ["Comedy"] } }
max_per = { genres = 3 }
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.cli import explain
from train.recommender.recommender import Recommender
from train.recommender.requests import Request
from train.recommender.rule_models import Rules
from train.recommender.rules import check


def read(path: str) -> dict[str, Any]:
    """Return the tables of a file of scenarios.

    Raises:
        ValueError: the file is not TOML, or a scenario has a key or a value that rules have not.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    for name, table in tables.items():
        try:
            Rules.model_validate(table)
        except ValidationError as error:
            raise ValueError(f"{path}: scenario {name}: {explain(error)}") from error
    return tables


def checked(recommender: Recommender, tables: Mapping[str, Any]) -> dict[str, Rules]:
    """Return the scenarios, which the bundle can follow.

    Raises:
        ValueError: it cannot follow one.
    """
    found = {name: Rules.model_validate(table) for name, table in tables.items()}
    for name, rules in found.items():
        try:
            check(recommender, Request(**rules.values()))
        except ValueError as error:
            raise ValueError(f"scenario {name}: {error}") from error
    return found
