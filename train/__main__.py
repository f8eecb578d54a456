"""`python -m train inspect | fit | evaluate | ...`: from a run file to a bundle and its answers."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.cli import GRACE, run
from cluster.verbosity import add_flags, set_up
from train.entries import ENTRIES, listed

if TYPE_CHECKING:
    from train.bundle.bundle import Bundle


def fit(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Train both stages, evaluate them and write a bundle; print the table and its place."""
    if arguments.run is None:
        _without_a_file(flags)
        return
    from train.run_files import checked_run

    settings = checked_run(arguments.run, flags)
    from train.bundle.bundle import check
    from train.fit import fit

    place = fit(settings, arguments.address)
    _print_report(check(place)[1])
    print(place)


FIT_HELP = """usage: python -m train fit RUN.toml [--address HOST:PORT] [--KEY VALUE ...]

{doc}

RUN.toml is a run file, or the name of a preset. Every key of a run is a flag (--train.epochs 3,
--loss.name bpr, --sources tower ease): with a file, `fit RUN.toml --help` lists them with its
values; docs/configuration.md says what each one means. What a run may name:

{entries}
"""


def _without_a_file(flags: list[str]) -> None:
    if not {"-h", "--help"} & set(flags):
        raise ValueError("fit: expected a run file or the name of a preset; see fit --help")
    print(FIT_HELP.format(doc=fit.__doc__, entries=listed(ENTRIES)))


def inspect(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Read the tables of a run and say what was read, before anything is trained."""
    from train.run_files import checked_run

    settings = checked_run(arguments.run, flags)
    from train.inspect import inspect, lines

    found = inspect(settings)
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(lines(found)))


def runs(arguments: argparse.Namespace, flags: list[str]) -> None:
    """List the runs and sweeps in a folder, how far they are, and their bundles."""
    _no_more(flags)
    from train.runs import lines, runs

    found = runs(arguments.storage)
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(lines(found)))


def remove(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Delete a run or a sweep with its bundles; it asks first, or takes --yes."""
    _no_more(flags)
    from train.runs import remove

    if not arguments.yes:
        if not sys.stdin.isatty():
            raise ValueError("nobody is there to be asked; say --yes to delete it")
        if input(f"delete {arguments.run} with its bundles? [y/N] ").strip().lower() != "y":
            raise ValueError("nothing is deleted")
    remove(arguments.run)
    print(f"deleted {arguments.run}")


def evaluate(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Measure a bundle on its test again, or show what was measured before its final fit."""
    _no_more(flags)
    from train.bundle.bundle import open_bundle
    from train.evaluate import measure, measure_rules
    from train.recommender.rule_models import Rules

    bundle = open_bundle(arguments.bundle)
    if arguments.rules is not None:
        found = measure_rules(bundle, Rules.model_validate_json(arguments.rules).values())
        print(json.dumps(found, indent=2) if arguments.json else _said_of_rules(found))
        return
    metrics = measure(bundle)
    if arguments.json:
        print(json.dumps(metrics, indent=2))
    else:
        _print_report({**bundle.manifest, "metrics": metrics})


def compare(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Compare runs that were measured on the same test, and name a winner if there is one."""
    _no_more(flags)
    from train.report.compare import compare, render

    found = compare(arguments.bundles)
    print(json.dumps(found, indent=2) if arguments.json else render(found))


def report(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Write a bundle's tables and plots as one HTML file, and print its place."""
    _no_more(flags)
    from train.report.page import write_page

    print(write_page(arguments.bundle, arguments.to))


def recommend(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Print what one user is recommended, on what, and the newest of the history, as JSON."""
    _no_more(flags)
    from train.bundle.bundle import open_bundle
    from train.recommender.answers import newest_of_history
    from train.recommender.answers import recommend as answer
    from train.recommender.requests import Request
    from train.recommender.rule_models import Rules
    from train.recommender.rules import check

    if arguments.k < 1:
        raise ValueError(f"--k: expected at least 1, got {arguments.k}")
    bundle = open_bundle(arguments.bundle)
    asked = [] if arguments.user_id is None else [arguments.user_id]
    users = _ids(asked, bundle.recommender.users.is_integer, "--user-id")
    history = _ids(arguments.history, bundle.recommender.items.is_integer, "--history")
    rules = Rules.model_validate_json(arguments.rules).values()
    attributes = _attributes(arguments.user)
    user_id = users[0] if users else None
    request = Request(user_id, history, arguments.k, user=attributes, **rules)
    check(bundle.recommender, request)
    found = answer(bundle.recommender, [request])[0]
    found["history"] = newest_of_history(bundle.recommender, request)
    print(json.dumps(found, indent=2, ensure_ascii=False))


def _attributes(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--user: expected JSON, got {text!r}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f'--user: expected an object such as {{"age": 25}}, got {text!r}')
    return found


def export(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Write a bundle in another format: its towers and scores as ONNX, or a model for MLflow."""
    _no_more(flags)
    from train.bundle.bundle import open_bundle

    call, needed = EXPORTS[arguments.to]
    bundle = open_bundle(arguments.bundle)
    out = arguments.out or Path(bundle.version + "-" + arguments.to)
    try:
        call(bundle, out)
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}; install: pip install -c constraints.txt {needed}") from error


def _to_onnx(bundle: "Bundle", out: Path) -> None:
    from train.export.onnx_model import export_onnx

    for name, difference in export_onnx(bundle, out).items():
        print(f"{out / name}: within {difference:.1e} of torch")


def _to_mlflow(bundle: "Bundle", out: Path) -> None:
    from train.export.mlflow_model import export_mlflow

    export_mlflow(bundle, out)
    print(out)


# What writes each format, and what that needs.
EXPORTS = {
    "onnx": (_to_onnx, "onnx onnxruntime onnxscript"),
    "mlflow": (_to_mlflow, "mlflow-skinny pandas"),
}


def embed_text(arguments: argparse.Namespace, flags: list[str]) -> None:
    """Write a table with one more column, the embedding of its texts; print its place."""
    _no_more(flags)
    from train.datasets.embed_text import Encoding, embed_text

    options = {k: of for k, of in vars(arguments).items() if k not in ("call", "verbosity")}
    encoding = {key: options.pop(key) for key in ("model", "workers", "batch_size", "address")}
    print(embed_text(**options, encoding=Encoding(**encoding)))


def _positive(word: str) -> int:
    count = int(word)
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {count}")
    return count


def _ids(words: list[str], integers: bool, flag: str) -> list[int | str]:
    try:
        return [int(word) if integers else word for word in words]
    except ValueError as error:
        raise ValueError(f"{flag}: the ids of this bundle are integers, got {words}") from error


def _no_more(flags: list[str]) -> None:
    if flags:
        raise ValueError(f"unknown arguments: {' '.join(flags)}; see --help")


def _said_of_rules(found: Mapping[str, Any]) -> str:
    lost = found["difference"]
    interval = f"[{lost['low']:+.4f}, {lost['high']:+.4f}]"
    return (
        f"NDCG@{found['k']} of {found['users']:,} test users: {found['with']:.4f} with these "
        f"rules, {found['without']:.4f} without: {lost['mean']:+.4f} {interval}"
    )


def _print_report(manifest: dict[str, object]) -> None:
    from train.report.text import render

    print(render(manifest))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    add_flags(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # `fit RUN.toml --help` is answered with every setting of the run.
    one = commands.add_parser("fit", help=fit.__doc__, allow_abbrev=False, add_help=False)
    one.add_argument("run", metavar="RUN.toml", nargs="?", help="a run file, or a preset's name")
    one.add_argument("--address", help="HOST:PORT of a Ray head; RAY_ADDRESS does the same")
    one.set_defaults(call=fit)
    zero = commands.add_parser("inspect", help=inspect.__doc__, allow_abbrev=False)
    zero.add_argument("run", metavar="RUN.toml", help="a run file, or the name of a preset")
    zero.add_argument("--json", action="store_true", help="as JSON")
    zero.set_defaults(call=inspect)
    two = commands.add_parser("evaluate", help=evaluate.__doc__)
    two.add_argument("bundle", metavar="BUNDLE", help="a bundle's or a run's folder or URI")
    two.add_argument("--json", action="store_true", help="the report as JSON")
    two.add_argument("--rules", metavar="JSON", help="say what rules cost, as recommend takes them")
    two.set_defaults(call=evaluate)
    several = commands.add_parser("compare", help=compare.__doc__)
    several.add_argument("bundles", metavar="BUNDLE", nargs="+", help="folders or URIs, as above")
    several.add_argument("--json", action="store_true", help="the comparison as JSON")
    several.set_defaults(call=compare)
    drawn = commands.add_parser("report", help=report.__doc__)
    drawn.add_argument("bundle", metavar="BUNDLE", help="a bundle's or a run's folder or URI")
    drawn.add_argument("--to", metavar="FILE", help="by default report.html in the run's folder")
    drawn.set_defaults(call=report)
    three = commands.add_parser("recommend", help=recommend.__doc__)
    three.add_argument("bundle", metavar="BUNDLE", help="a bundle's or a run's folder or URI")
    three.add_argument("--user-id", help="an id from the interactions")
    three.add_argument("--history", nargs="*", default=[], help="item ids, oldest first")
    attributes = "attributes of the user as POST /recommend takes them: '{\"age\": 25}'"
    three.add_argument("--user", metavar="JSON", default="{}", help=attributes)
    three.add_argument("--k", type=int, default=10, help="how many items")
    rules = 'rules as POST /recommend takes them, such as \'{"filter": {"price": {"lt": 20}}}\''
    three.add_argument("--rules", metavar="JSON", default="{}", help=rules)
    three.set_defaults(call=recommend)
    four = commands.add_parser("export", help=export.__doc__)
    four.add_argument("bundle", metavar="BUNDLE", help="a bundle's or a run's folder or URI")
    four.add_argument("--to", choices=list(EXPORTS), required=True, help="the format")
    four.add_argument("--out", type=Path, help="folder to make; VERSION-FORMAT by default")
    four.set_defaults(call=export)
    five = commands.add_parser("embed-text", help=embed_text.__doc__)
    five.add_argument("source", metavar="TABLE", help="CSV or Parquet: a file, a folder or a URI")
    five.add_argument("target", metavar="NEW.parquet", help="path or URI of what is written")
    five.add_argument("--columns", nargs="+", required=True, help="with texts, joined in a row")
    five.add_argument("--name", default="text_embedding", help="of the new column")
    five.add_argument("--model", help="folder of a model of sentence-transformers; else MiniLM")
    five.add_argument("--workers", type=_positive, help="as many as GPUs, or else CPUs, by default")
    five.add_argument("--batch-size", type=_positive, default=64, help="texts at a time")
    five.add_argument("--address", help="HOST:PORT of a Ray head; RAY_ADDRESS does the same")
    five.set_defaults(call=embed_text)
    six = commands.add_parser("runs", help=runs.__doc__)
    six.add_argument("storage", nargs="?", default="runs", help="folder or URI; by default runs")
    six.add_argument("--json", action="store_true", help="as JSON")
    six.set_defaults(call=runs)
    seven = commands.add_parser("remove", help=remove.__doc__)
    seven.add_argument("run", metavar="RUN", help="folder or URI of a run or a sweep")
    seven.add_argument("--yes", action="store_true", help="do not ask")
    seven.set_defaults(call=remove)
    for command in commands.choices.values():
        add_flags(command, argparse.SUPPRESS)
    return parser


def main(arguments: list[str]) -> None:
    """Run one command."""
    chosen, flags = _parser().parse_known_args(arguments)
    set_up(chosen.verbosity, "train")
    chosen.call(chosen, flags)


if __name__ == "__main__":
    run(main, grace=GRACE)
