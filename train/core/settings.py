"""The base of every settings model, and the choice of one entry of a dict by its name."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


def _unknown(kind: str, name: Any, entries: Mapping[str, Any]) -> str:
    available = ", ".join(sorted(entries))
    if name is None:
        return f"[{kind}] has no name; set name to one of: {available}"
    return f"unknown {kind} {name!r}; available: {available}"
