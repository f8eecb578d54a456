"""`python -m serve batch BUNDLE --out FOLDER`: recommendations to all users, as Parquet."""

import contextlib
import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import tyro
from pydantic import Field
from tyro.conf import Positional

from cluster import session, sight, storage
from cluster.cpus import available_cpus
from cluster.lease import leased
from cluster.vitals import watched
from serve import scenarios
from serve.batch import folder
from serve.batch.answers import Shape
from serve.batch.users import users_of
from train.bundle.bundle import check, open_bundle
from train.bundle.opening import Bundle
from train.core.progress import Progress
from train.core.settings import Settings
from train.recommender.requests import Request
from train.recommender.rule_models import Rules

if TYPE_CHECKING:
    from serve.batch.database import Target

logger = logging.getLogger("serve.batch")
AGAIN = "The same command goes on with the parts that are left."
# Users of a part: enough that a part is worth its file, few enough to see progress.
MOST, FEWEST = 20_000, 256
# Parts that a CPU gets, where there are few users.
SHARES = 4


class Batch(Settings):
    """Write the recommendations of many users as Parquet, each as /recommend answers.

    A batch that was ended goes on with the same command.

    Attributes:
        bundle: a bundle's folder, a run's folder (its newest bundle) or the URI of either.
        out: folder or URI of the parts; `_manifest.json` there comes last.
        users: `all` of the bundle, `active:30d` (who interacted within the last 30 days that it
            knows), or a CSV, TSV or Parquet file with a column `user_id`.
        k: how many items for each user.
        scenarios: a TOML file of named rules, as of the service.
        scenario: the one of them whose rules hold.
        explain: say where each item comes from; each user takes longer.
        shape: `rows` has a row for each user and rank, `lists` a row for each user, as a key-value
            store takes it.
        database: URL of a database (of SQLAlchemy, such as postgresql+psycopg://host/shop) that the
            parts are loaded into afterwards.
        table: its table, which is replaced all at once.
        workers: actors, each with a CPU; by default as many as the cluster has CPUs.
        address: of a running Ray cluster to join; by default a local one is started.
    """

    bundle: Positional[str]
    out: str
    users: str = "all"
    k: int = Field(10, ge=1)
    scenarios: str | None = None
    scenario: str | None = None
    explain: bool = False
    shape: Shape = "rows"
    database: str | None = None
    table: str = "recommendations"
    workers: int | None = Field(None, ge=1)
    address: str | None = None


@dataclass(frozen=True)
class Work:
    """What is to be recommended.

    Attributes:
        bundle: folder or URI of one version.
        opened: it.
        ids: of the users.
        rules: of the scenario, for each of them.
        out: folder or URI.
    """

    bundle: str
    opened: Bundle
    ids: pa.Array
    rules: Mapping[str, Any]
    out: str


def main(words: list[str]) -> int:
    """Recommend to users; 0 when all parts are there.

    Raises:
        ValueError: the bundle cannot be opened or cannot follow the rules, the users cannot be
            read, or the folder is of another batch.
    """
    args = tyro.cli(Batch, args=words, prog="python -m serve batch")
    work = _work(args)
    with contextlib.ExitStack() as stack:
        # It is seen before hours of work whether the database answers.
        place = stack.enter_context(_target(args)) if args.database else None
        stack.enter_context(leased(work.out))
        manifest = _written(args, work)
        if place is not None:
            place.load(work.out, manifest)
    print(f"{manifest['items']:,} items for {manifest['users']:,} users: {work.out}", flush=True)
    return 0


def _target(args: Batch) -> "AbstractContextManager[Target]":
    from serve.batch.database import target

    if args.shape != "rows":
        raise ValueError(f"--database takes --shape rows, not {args.shape}")
    return target(str(args.database), args.table)


def _work(args: Batch) -> Work:
    bundle, _ = check(args.bundle)
    opened = open_bundle(bundle)
    rules = _rules(args, opened)
    ids = users_of(opened.recommender, args.users)
    return Work(bundle, opened, ids, rules, storage.absolute(args.out))


def _rules(args: Batch, opened: Bundle) -> dict[str, Any]:
    """Return the rules of the scenario that was named.

    Raises:
        ValueError: there is none of that name, or the bundle cannot follow it.
    """
    if (args.scenario is None) != (args.scenarios is None):
        raise ValueError("--scenario NAME and --scenarios FILE: expected both, or neither")
    if args.scenario is None:
        return {}
    tables: Mapping[str, Any] = scenarios.read(str(args.scenarios))
    found: Mapping[str, Rules] = scenarios.checked(opened.recommender, tables)
    if args.scenario not in found:
        available = ", ".join(found) or "none"
        raise ValueError(f"unknown scenario {args.scenario!r}; available: {available}")
    return found[args.scenario].values()


def _written(args: Batch, work: Work) -> dict[str, Any]:
    """Write the parts that are not there yet, then the manifest; return it."""
    identity = _identity(args, work)
    # A plan that is there says itself how large its parts are.
    per_part = folder.prepare(work.out, identity, _per_part(len(work.ids)))["users_per_part"]
    storage.sweep(work.out)
    if folder.is_done(work.out):
        logger.info("%s is complete", work.out)
        return folder.read_manifest(work.out)
    parts = -(-len(work.ids) // per_part)
    if left := folder.left(work.out, parts):
        _recommend(args, work, [(n, work.ids.slice(n * per_part, per_part)) for n in left], parts)
    manifest = {**identity, **folder.summary(work.out, parts)}
    folder.finish(work.out, manifest)
    return manifest


def _identity(args: Batch, work: Work) -> dict[str, Any]:
    """Return what makes a batch another one."""
    return {
        "bundle": work.opened.version,
        "user_ids": folder.fingerprint(work.ids),
        "users": len(work.ids),
        "k": args.k,
        "rules": work.rules,
        "explain": args.explain,
        "shape": args.shape,
    }


def _per_part(users: int) -> int:
    return max(FEWEST, min(MOST, -(-users // (SHARES * available_cpus()))))


def _recommend(args: Batch, work: Work, left: list[tuple[int, pa.Array]], parts: int) -> None:
    """Have actors write parts, and say how far they are."""
    if len(left) < parts:
        logger.info("going on: %d of %d parts are there", parts - len(left), parts)
    # The C++ part of this process, which has no logger, warns of how Ray Data makes its actors. Not
    # by os.environ, which Ray's own processes would inherit.
    os.putenv("RAY_BACKEND_LOG_LEVEL", "fatal")
    joined = session.connect(args.address)
    sight.check_readable(work.bundle, storage.MANIFEST)
    sight.check_seen(work.out)
    workers = min(args.workers or max(1, int(joined.cpus)), len(left))
    from serve.batch.pool import recommended

    request = Request(k=args.k, explain=args.explain, **work.rules)
    wanted = sum(len(ids) for _, ids in left)
    logger.info("recommending to %s users, %d workers ...", f"{wanted:,}", workers)
    with watched(AGAIN):
        progress = Progress(logger, "", wanted)
        for told in recommended(left, workers, work.bundle, work.out, request, args.shape):
            progress.add(told["users"])
    joined.leave()
