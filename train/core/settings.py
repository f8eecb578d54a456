"""The base of every settings model, and the choice of entries of a dict by their names."""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            "expected letters, digits, '.', '_' and '-', the first a letter or a digit (it names "
            f"a folder), got {name!r}"
        )
    return name


FolderName = Annotated[str, AfterValidator(_folder_name)]
"""The name of a run or a sweep, which its folder has too."""


def one_of(kind: str, entries: Mapping[str, type[Settings]]) -> BeforeValidator:
    """Return a validator that turns `{"name": ..., **settings}` into the entry of that name.

    A bare string is taken as the name. Use as `Annotated[Loss, one_of("loss", LOSSES)]`.

    Raises:
        ValueError: the name is missing or is not a key of `entries`.
    """

    def pick(value: Any) -> Any:
        if isinstance(value, tuple(entries.values())):
            return value
        if not isinstance(value, str | Mapping):
            raise ValueError(f"expected a table or a name, got {value!r}")
        table = {"name": value} if isinstance(value, str) else dict(value)
        name = table.get("name")
        if name not in entries:
            raise ValueError(_unknown(kind, name, entries))
        try:
            return entries[str(name)].model_validate(table)
        except ValidationError as error:
            # As it is, pydantic would merge it and lose which entry's fields there are.
            raise ValueError(str(error)) from error

    return BeforeValidator(pick)


def named_once(kind: str) -> AfterValidator:
    """Return a validator of a tuple of entries, each of which can be there once.

    Raises:
        ValueError: two have the same name.
    """

    def check(entries: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [entry.name for entry in entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"a {kind} can be there once; more than once: {', '.join(twice)}")
        return entries

    return AfterValidator(check)


def _unknown(kind: str, name: Any, entries: Mapping[str, Any]) -> str:
    available = ", ".join(sorted(entries))
    if name is None:
        return f"[{kind}] has no name; set name to one of: {available}"
    near = difflib.get_close_matches(str(name), list(entries), n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    return f"unknown {kind} {name!r}; available: {available}{guess}"
