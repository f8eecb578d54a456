"""`python -m tests.fuzz [N]`: random requests with all rules to a served bundle, 15,000 by default.

Each has to be answered with 200, as offline, to break none of its rules, and to have k items while
there are so many.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.serving import serving
from tests.unit.test_rules import SYSTEMS, assert_rules, ids, requests
from tests.waiting import BOUND
from train.bundle import bundle
from train.recommender.answers import recommend
from train.recommender.requests import Request

TOGETHER = 50


def main(number: int) -> None:
    """Fuzz both systems, each by a half of the requests."""
    for name, system in SYSTEMS.items():
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / bundle.write(folder, system, {"name": "fuzz"})
            with (
                serving(place) as (url, _),
                httpx.Client(base_url=url, timeout=BOUND) as client,
                ThreadPoolExecutor(16) as pool,
            ):
                begun = time.monotonic()
                asked = fuzzed(client, pool, bundle.open_bundle(place).recommender, number // 2)
                took = time.monotonic() - begun
        print(f"{name}: {asked} requests, all right, {took:.0f} s", flush=True)


def fuzzed(client: httpx.Client, pool: ThreadPoolExecutor, recommender: Any, number: int) -> int:
    """Send requests, and check what is answered; return how many there were."""
    asked = 0

    def ask(body: Any) -> Any:
        answer = client.post("/recommend", json=body)
        assert answer.status_code == 200, (answer.status_code, answer.text, body)
        return answer.json()

    @given(st.lists(requests, min_size=TOGETHER, max_size=TOGETHER))
    @settings(
        max_examples=number // TOGETHER,
        deadline=None,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def fuzz(bodies: list[Any]) -> None:
        nonlocal asked
        answers = list(pool.map(ask, bodies))
        given_ = [Request(**body) for body in bodies]
        for request, answer, alone in zip(
            given_, answers, recommend(recommender, given_), strict=True
        ):
            assert_rules(recommender, request, answer)
            assert ids(answer) == ids(alone)
        asked += len(bodies)

    fuzz()
    return asked


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15_000)
