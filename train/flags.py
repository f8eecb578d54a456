"""Flags over a run's settings: `--train.epochs 3`, `--loss.name bpr`, `--sources tower ease`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, create_model

from train.config import Draft, Run, name_of

# Tables that are chosen by a name.
CHOICES = ("data", "split", "tower", "loss", "reranker", "tracking")
# Lists of entries, each there once, that flags take the names of.
LISTS = ("sources", "reranker.kinds", "evaluation.baselines")


DESCRIPTION = (
    "Keys of a run as flags. --loss.name NAME and others of that kind choose another entry. Lists "
    f"take names: {', '.join(f'--{key} NAME ...' for key in LISTS)}."
)


def apply_flags(table: Mapping[str, Any], flags: Sequence[str]) -> Run:
    """Return the run of a table of settings with flags applied over it.

    Args:
        table: as of a run file.
        flags: `--loss.temperature 0.05 ...`; `--loss.name NAME` puts that entry in the place of
            the whole table, `--sources NAME ...` takes these sources, with their settings where
            they were there before, and `--sources.NAME.quota 50` sets a key of one of them.

    Raises:
        ValueError: a key or value that is not known.
    """
    table, rest = _chosen(dict(table), list(flags))
    if not rest:
        return Run.model_validate(table)
    import tyro

    # Flags may mend what does not go together.
    run = Draft.model_validate(table)
    flat = _by_name(run)
    parsed = tyro.cli(
        type(flat),
        prog="python -m train fit RUN.toml",
        description=DESCRIPTION,
        default=flat,
        args=[_of_list(word, run) for word in rest],
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.AvoidSubcommands),
    )
    return Run.model_validate(_without_defaults(_dumped(parsed), _dumped(flat), table))


def _chosen(table: dict[str, Any], flags: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Take `--loss.name NAME` and `--sources NAME ...` out of the flags and into the table."""
    rest: list[str] = []
    words = _split(flags)
    while words:
        word = words.pop(0)
        part = word.removeprefix("--").removesuffix(".name")
        if word == f"--{part}.name" and part in CHOICES:
            name = words.pop(0) if words else ""
            if name_of(table.get(part)) != name:
                table[part] = {"name": name}
        elif word.startswith("--") and part in LISTS:
            end = next((n for n, other in enumerate(words) if other[:2] == "--"), len(words))
            names, words = words[:end], words[end:]
            _put(table, part, names)
        else:
            rest.append(word)
    return table, rest


def _split(flags: Iterable[str]) -> list[str]:
    """Return `--key=value` as two words."""
    return [part for flag in flags for part in (flag.split("=", 1) if flag[:2] == "--" else [flag])]


def _put(table: dict[str, Any], key: str, names: list[str]) -> None:
    """Put the entries of these names in the place of a list; those there keep their settings."""
    above, _, last = key.rpartition(".")
    inner = table
    if above:
        entry = table.get(above)
        default = {"name": "auto"} if above == "reranker" else {}
        inner = {"name": entry} if isinstance(entry, str) else dict(entry or default)
        table[above] = inner
    there = {name_of(entry): entry for entry in inner.get(last, ())}
    inner[last] = [there.get(name, name) for name in names]


def _entries(run: Draft, key: str) -> Any:
    """Return the entries of one of `LISTS`; None where the run's reranker has no such list."""
    found: Any = run
    for part in key.split("."):
        found = getattr(found, part, None)
    return found


def _of_list(word: str, run: Draft) -> str:
    """Return a flag of an entry of a list by the entry's name: `--sources.0.quota` has a number.

    Raises:
        ValueError: there is no such entry.
    """
    for key in LISTS:
        if not word.startswith(f"--{key}.") or _entries(run, key) is None:
            continue
        names = [entry.name for entry in _entries(run, key)]
        wanted, _, rest = word.removeprefix(f"--{key}.").partition(".")
        place = wanted.replace("-", "_")
        if place.isdecimal() and int(place) < len(names):
            place = names[int(place)]
        if place not in names:
            raise ValueError(
                f"{word}: {wanted} is not in {key}, which has {', '.join(names) or 'none'}; to "
                f"have others, name all of them: --{key} NAME ..."
            )
        return f"--{key}.{place}.{rest}"
    return word


def _by_name(run: Draft) -> Draft:
    """Return the draft as tyro reads it: entries of their own types, lists as tables by name."""
    parts: dict[str, Any] = {name: getattr(run, name) for name in CHOICES}
    for key in LISTS:
        entries = _entries(run, key)
        if entries is None:
            continue
        above, _, last = key.rpartition(".")
        named = _model("Entries", {entry.name: entry for entry in entries})
        parts[above or last] = _model(above, {last: named}, getattr(run, above)) if above else named
    return _model("Draft", parts, run)  # type: ignore[return-value]


def _model(name: str, values: Mapping[str, BaseModel], base: BaseModel | None = None) -> BaseModel:
    """Return the model with fields of the types of these values, which are not checked again."""
    fields: Any = {key: (type(value), value) for key, value in values.items()}
    model = create_model(name, __base__=None if base is None else type(base), **fields)
    return model.model_construct(**{**dict(base or ()), **values})


def _dumped(run: BaseModel) -> dict[str, Any]:
    """Return the table of a draft by `_by_name`, with lists as lists again."""
    table = run.model_dump(mode="json", serialize_as_any=True)
    for inner, last in _lists(table):
        inner[last] = list(inner[last].values())
    return table


def _lists(table: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    """Yield the table that each of `LISTS` is in, and its key there."""
    for key in LISTS:
        above, _, last = key.rpartition(".")
        inner = table.get(above, {}) if above else table
        if isinstance(inner, dict) and last in inner:
            yield inner, last


def _without_defaults(
    parsed: dict[str, Any], before: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Leave out lists that neither file nor flags name: they follow from `seen`."""
    told = {last for _, last in _lists(given)}
    old = {last: inner[last] for inner, last in _lists(before)}
    for inner, last in list(_lists(parsed)):
        if last not in told and inner[last] == old[last]:
            del inner[last]
    return parsed
