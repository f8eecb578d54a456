"""`python -m tune SWEEP.toml`: many trials of a run, and the best of them as a run file."""

import argparse
from typing import Any

from cluster.cli import GRACE, run
from cluster.verbosity import add_flags, set_up
from train.entries import ENTRIES, listed
from tune.settings import SweepSettings


def main(arguments: list[str]) -> None:
    """Run a sweep; print its trials, its outcome, and how to train the best one."""
    flags = vars(_parser().parse_args(arguments))
    set_up(flags.pop("verbosity"), "train", "tune")
    source, address, resume, refit = (
        flags.pop(name) for name in ("sweep", "address", "resume", "refit")
    )
    from tune.config import read_sweep

    sweep = read_sweep(source, {key: value for key, value in flags.items() if value is not None})
    base = sweep.base()
    from tune.finish import finish
    from tune.search import search

    finish(sweep, base, search(sweep, base, address, resume), address, refit=refit)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tune",
        description=main.__doc__,
        epilog=listed({**ENTRIES, "preset": "tune/presets"}),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_flags(parser)
    parser.add_argument("sweep", metavar="SWEEP.toml", help="a sweep file, or the name of a preset")
    parser.add_argument("--address", help="HOST:PORT of a Ray head; RAY_ADDRESS does the same")
    parser.add_argument(
        "--resume", action="store_true", help="go on with a sweep; --trials may be more than before"
    )
    parser.add_argument("--refit", action="store_true", help="fit the winner, and write its bundle")
    for name, field in SweepSettings.model_fields.items():
        # Settings read their values from text, with their own messages.
        parser.add_argument(f"--{name.replace('_', '-')}", help=_help(name, field))
    return parser


def _help(name: str, field: Any) -> str:
    default = "" if field.is_required() else f", else {field.default}"
    return f"{name.replace('_', ' ')}; what the file says{default}"


if __name__ == "__main__":
    run(main, grace=GRACE)
