"""The commands of docs/training.md, run in order on a shop's files."""

from pathlib import Path

import pytest

from tests.documents import Section, run, sections


@pytest.mark.parametrize("section", sections("test_docs_training"), ids=str)
def test_commands_do_what_they_say(section: Section, trained: Path) -> None:
    run(section, trained)
