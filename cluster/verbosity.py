"""What every command line here says about itself and how much: `--version`, `-q`, `-v`."""

import argparse
import logging
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("ray", "torch", "catboost", "hnswlib")


def product_version() -> str:
    """Return the version of this product, as `pyproject.toml` has it, and of what it runs on."""
    import tomllib

    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    try:
        own = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    except FileNotFoundError:
        own = version("raytower")
    return f"raytower {own} (Python {platform.python_version()}, {', '.join(_libraries())})"


def _libraries() -> list[str]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return found


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(product_version())
        parser.exit()


def add_flags(parser: argparse.ArgumentParser, default: Any = 0) -> None:
    """Add `--version`, `-q` and `-v`; the last two are `verbosity`, -1, 0 or 1.

    Parsers of commands below another parser take `argparse.SUPPRESS` as the default, so that they
    leave what that one has read.
    """
    hidden = argparse.SUPPRESS
    parser.add_argument("--version", action=_Version, nargs=0, default=hidden, help="say it")
    level = parser.add_mutually_exclusive_group()
    for flags, said, words in (
        (("-q", "--quiet"), -1, "log warnings alone"),
        (("-v", "--verbose"), 1, "log more"),
    ):
        level.add_argument(
            *flags,
            dest="verbosity",
            action="store_const",
            const=said,
            default=default,
            help=words,
        )


def taken(words: Sequence[str]) -> tuple[int, list[str]]:
    """Take `-q` and `-v` out of arguments that another parser reads, or answer `--version`.

    Returns:
        -1, 0 or 1, and the other words.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_flags(parser)
    chosen, rest = parser.parse_known_args(words)
    return chosen.verbosity, rest


def set_up(verbosity: int, *packages: str) -> None:
    """Log to stderr what packages say: warnings alone (-1), what happens (0), or more (1)."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    level = {-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}[verbosity]
    for package in packages:
        logging.getLogger(package).setLevel(level)
