"""`python -m tests.reference`: write docs/configuration.md from the settings and their docstrings.

It reads what a run, a sweep and a server can be given, so it is of no package: only tests may
import all of them.
"""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from serve.batch.command import Batch
from serve.config import Process, ServeArgs
from train.baselines import BASELINES
from train.baselines.base import Baseline
from train.config import STAGE_TWO, Draft
from train.core.settings import Settings
from train.data.splits import SPLITS
from train.datasets import DATASETS
from train.evaluation.settings import Evaluation
from train.losses import LOSSES
from train.rerankers.base import RerankerSettings
from train.sources.base import SourceSettings
from train.sources.entries import SOURCES
from train.towers import TOWERS
from train.tracking import TRACKING
from tune.config import Sweep

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
COMMAND = "python -m tests.reference"
# The tables of a run that are chosen by a name, with the entries of each.
ENTRIES: Mapping[str, Mapping[str, type[Settings]]] = {
    "data": DATASETS,
    "split": SPLITS,
    "tower": TOWERS,
    "loss": LOSSES,
    "reranker": STAGE_TWO,
    "tracking": TRACKING,
}
# Those of lists, with the base of each.
LISTED: Mapping[str, tuple[Mapping[str, type[Settings]], type[Settings]]] = {
    "sources": (SOURCES, SourceSettings),
    "evaluation.baselines": (BASELINES, Baseline),
}
LISTABLE = (SourceSettings, Baseline, RerankerSettings)
WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}

HEAD = f"""# Configuration

<!-- Written by `{COMMAND}` from the settings' docstrings: change those, not this page. -->

Every key of a run file and of a sweep file, and every flag of `python -m serve`. A run is made from
defaults, then one TOML file, then flags: the key `epochs` of `[train]` in a file is the flag
`--train.epochs`. A table with a `name` chooses an entry, with that entry's keys; another name
replaces the whole table. Flags of a list take names, `--sources tower ease`, and keys of one of its
entries, `--sources.ease.quota 50`; so do `--reranker.kinds` and `--evaluation.baselines`. Unknown
keys are refused, with the nearest known one. How the pieces fit together:
[concepts](concepts.md), [training](training.md), [tuning](tuning.md).

"""
SWEEP = """## A sweep file

Read by `python -m tune SWEEP.toml`; all but `space`, `start` and `tracking` are flags as well.
See [tuning](tuning.md) for ranges and choices.
"""
SERVE = """## Serving

Flags of `python -m serve BUNDLE`, and with Ray's own tools the arguments of `serve.app:build`
(`serve run serve.app:build bundle=... topology=fused`).
"""
PROCESS = """### The server process

Flags of `python -m serve` alone.
"""
BATCHES = """## Batches

Flags of `python -m serve batch BUNDLE`; see [batches](batches.md).
"""


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the description of each field by its name, those of base classes included."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls.__doc__:
            found |= _attributes(inspect.cleandoc(cls.__doc__))
    return {name: found[name] for name in model.model_fields if name in found}


def _attributes(docstring: str) -> dict[str, str]:
    """Return what the section "Attributes:" of a docstring says of each name."""
    _, _, section = docstring.partition("Attributes:\n")
    section = re.split(r"^\S", section, maxsplit=1, flags=re.MULTILINE)[0]
    entries = re.split(r"^ {4}(\w+): ", section, flags=re.MULTILINE)[1:]
    return {
        name: " ".join(text.split()) for name, text in zip(entries[::2], entries[1::2], strict=True)
    }


def summary(model: type[BaseModel]) -> str:
    """Return a docstring up to its sections."""
    text = inspect.cleandoc(model.__dict__.get("__doc__") or "")
    return re.split(r"^(?:Attributes|Raises):", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def reference() -> str:
    """Return the whole page."""
    of_run, of_sweep = _run(), [SWEEP, _table(Sweep)]
    of_serving = [SERVE, _table(ServeArgs), PROCESS, _table(Process)]
    of_batches = [BATCHES, _table(Batch)]
    return HEAD + "\n".join([*of_run, *of_sweep, *of_serving, *of_batches])


def _run() -> Iterator[str]:
    yield "## A run file\n"
    tables = [name for name, field in Draft.model_fields.items() if _is_table(name, field)]
    yield _table(Draft, leave=tables)
    for name in tables:
        described = descriptions(Draft)[name]
        title = f"[[{name}]]" if name in LISTED else f"[{name}]"
        yield f"## {title}\n\n{described[:1].upper()}{described[1:]}\n"
        if name in LISTED:
            yield f"Each is a name, or a table with one; by default {_listed(name)}.\n"
            yield _table(SourceSettings, ["quota"])
            yield from _listed_entries(name)
        else:
            yield from _chosen(name) if name in ENTRIES else _single(name)


def _listed(name: str) -> str:
    return ", ".join(f"`{entry.name}`" for entry in Draft.model_fields[name].default)


def _listed_entries(name: str) -> Iterator[str]:
    entries, base = LISTED[name]
    for entry, model in entries.items():
        yield from _entry(f"{name}: {entry}", model, base)


def _is_table(name: str, field: FieldInfo) -> bool:
    return name in ENTRIES or name in LISTED or isinstance(field.default, Settings)


def _single(name: str) -> Iterator[str]:
    model = type(Draft.model_fields[name].default)
    yield f"{summary(model)}\n"
    yield _table(model)
    if model is Evaluation:
        yield from _listed_entries("evaluation.baselines")


def _chosen(name: str) -> Iterator[str]:
    field, entries = Draft.model_fields[name], ENTRIES[name]
    default = "" if field.is_required() else f"; by default `{field.default.name}`"
    links = ", ".join(f"[`{entry}`](#{_anchor(f'{name}: {entry}')})" for entry in entries)
    yield f"`name` is one of {links}{default}.\n"
    base = field.annotation
    assert isinstance(base, type) and issubclass(base, Settings)
    if common := _shown(base):
        yield f"Keys of every entry, whose defaults an entry may change. {summary(base)}\n"
        yield _table(base, common)
    for entry, model in entries.items():
        yield from _entry(f"{name}: {entry}", model, base)


def _entry(title: str, model: type[Settings], base: type[Settings]) -> Iterator[str]:
    """Yield the section of an entry: the keys that its base has not, or has with other defaults."""
    yield f"### {title}\n\n{summary(model)}\n"
    own = [name for name in _shown(model) if _differs(model, base, name)]
    if own:
        yield _table(model, own)
    for name, inner in _within(model):
        yield f"#### [{title.split(':')[0]}.{name}]\n\n{summary(inner)}\n"
        yield _table(inner)


def _within(model: type[Settings]) -> Iterator[tuple[str, type[Settings]]]:
    """Yield the tables within an entry's table, which are chosen by no name."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if (
            isinstance(kind, type)
            and issubclass(kind, Settings)
            and "name" not in kind.model_fields
        ):
            yield name, kind


def _shown(model: type[BaseModel]) -> list[str]:
    return [name for name in model.model_fields if name != "name" or model is Draft]


def _differs(model: type[Settings], base: type[Settings], name: str) -> bool:
    ours, theirs = model.model_fields[name], base.model_fields.get(name)
    return theirs is None or _row(name, ours, "") != _row(name, theirs, "")


def _anchor(title: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _table(
    model: type[BaseModel], names: list[str] | None = None, leave: list[str] | None = None
) -> str:
    described = descriptions(model)
    shown = names or [name for name in model.model_fields if name not in (leave or [])]
    rows = [_row(name, model.model_fields[name], described.get(name, "")) for name in shown]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _row(name: str, field: FieldInfo, described: str) -> str:
    cells = [f"`{name}`", _type(field), _default(field), described]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _type(field: FieldInfo) -> str:
    return _worded(field.annotation) + _bounds(field.metadata)


def _worded(kind: Any) -> str:
    """Return a type in the words of a TOML file."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _worded(parts[0]) + _bounds(parts[1:])
    if origin in (Union, UnionType):
        return " or ".join(_worded(part) for part in parts if part is not NoneType)
    if origin is Literal:
        return " or ".join(f"`{json.dumps(part)}`" for part in parts)
    if origin is tuple:
        return f"list of {_worded(parts[0])}" + ("" if parts[-1] is ... else f", {len(parts)}")
    if origin is dict:
        return "table"
    if isinstance(kind, type) and issubclass(kind, Settings):
        return "names or tables" if kind in LISTABLE else "table"
    return WORDS[kind]


def _bounds(metadata: Any) -> str:
    """Return the limits among a field's metadata, as ` ≥ 1`."""
    limits = []
    for entry in metadata:
        if isinstance(entry, FieldInfo):
            limits.append(_bounds(entry.metadata).strip())
        elif not isinstance(entry, BeforeValidator | AfterValidator):
            found = [(BOUNDS[k], getattr(entry, k)) for k in BOUNDS if hasattr(entry, k)]
            limits += [f"{sign} {limit}" for sign, limit in found]
    limits = [limit for limit in limits if limit]
    return f" {', '.join(limits)}" if limits else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "not set"
    if isinstance(value, Settings) and not hasattr(value, "name"):
        return "see below"
    if isinstance(value, Settings):
        return f"`{json.dumps(value.model_dump()['name'])}`"
    if isinstance(value, tuple):
        value = [getattr(entry, "name", entry) for entry in value]
    return f"`{json.dumps(str(value) if isinstance(value, Path) else value)}`"


def every_model() -> Iterator[type[Settings]]:
    """Yield each settings class that a user can give values to."""
    yield from (Draft, Evaluation, Sweep, ServeArgs, Process)
    for field in Draft.model_fields.values():
        if isinstance(field.default, Settings):
            yield type(field.default)
    for entries in (*ENTRIES.values(), *(entries for entries, _ in LISTED.values())):
        for entry in entries.values():
            yield entry
            yield from (inner for _, inner in _within(entry))


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    print(PAGE)
