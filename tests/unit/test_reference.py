"""docs/configuration.md is what the settings say, and every setting says something."""

import re

import pytest
from pydantic import Field

from tests.reference import (
    COMMAND,
    ENTRIES,
    LISTED,
    PAGE,
    descriptions,
    every_model,
    reference,
    summary,
)
from train.config import Draft
from train.core.settings import Settings

MODELS = {model.__name__: model for model in every_model()}


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_is_described(name: str) -> None:
    model = MODELS[name]
    chosen_by = {"name"} if model is not Draft and "name" in model.model_fields else set()
    undescribed = model.model_fields.keys() - descriptions(model).keys()
    assert undescribed - chosen_by == set(), "add them to `Attributes:` in its docstring"
    assert summary(model)


def test_the_page_is_what_the_settings_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), f"renew it: {COMMAND}"


def test_the_page_has_every_table_and_entry() -> None:
    headings = re.findall(r"^#+ (.+)$", reference(), re.MULTILINE)
    tables = {name for name, field in Draft.model_fields.items() if f"[{name}]" in headings}
    settings = {n for n, f in Draft.model_fields.items() if isinstance(f.default, Settings)}
    assert tables == settings | {"data"}
    assert "[[sources]]" in headings
    every = {**ENTRIES, **{name: entries for name, (entries, _) in LISTED.items()}}
    assert {f"{table}: {entry}" for table, found in every.items() for entry in found} <= set(
        headings
    )


class Planted(Settings):
    """One sentence.

    Two more | with a bar.

    Attributes:
        width: of a | vector,
            in elements.
        missing_field: is none.
    """

    width: int = Field(default=3, ge=1)
    depth: int = 2


def test_descriptions_are_read_from_the_docstring() -> None:
    assert descriptions(Planted) == {"width": "of a | vector, in elements."}
    assert summary(Planted) == "One sentence.\n\nTwo more | with a bar."


def test_a_base_class_describes_what_its_subclass_does_not() -> None:
    class Below(Planted):
        """Another.

        Attributes:
            depth: in layers.

        Raises:
            ValueError: never.
        """

    assert descriptions(Below)["width"] == "of a | vector, in elements."
    assert descriptions(Below)["depth"] == "in layers."
