"""Stage 1 as the HTTP ingress: requests gather into batches, one call ranks a batch."""

from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve.config import ServeArgs
from serve.http import Application
from serve.loopback import bind_to_node
from serve.ranking import pack
from train.bundle.bundle import open_bundle
from train.core.ragged import Array
from train.recommender.answers import answers
from train.recommender.ranking import Ranking
from train.recommender.requests import Request, Retrieved
from train.recommender.retrieval import Retrieval


class RetrievalReplica:
    """Answers HTTP: retrieves, has the candidates ranked, and names the items.

    Args:
        args: the application's settings.
        ranking: the second stage's deployment; None runs the second stage in here.
    """

    def __init__(self, args: ServeArgs, ranking: DeploymentHandle[Any] | None = None) -> None:
        bind_to_node()
        self._args = args
        self._bundle = open_bundle(args.bundle)
        self._retrieval = Retrieval(self._bundle, args.candidates)
        self._remote = ranking
        self._local = Ranking(self._bundle) if ranking is None else None
        self._warm_up()
        # One batch is computed while another waits for its ranking: a single one halves the rate.
        self._batched = serve.batch(
            max_batch_size=args.max_batch, batch_wait_timeout_s=0.0, max_concurrent_batches=2
        )(self._recommend)

    def _warm_up(self) -> None:
        """Load now what is loaded once, the tower above all, and not while a request waits."""
        known = Request(history=[self._bundle.items.ids[0].as_py()])
        found = self._retrieval.retrieve([known])
        if self._local is not None:
            self._local.rank(found.queries, found.vectors, found.candidates, 1)

    def __serve_build_asgi_app__(self) -> Application:
        """Return the HTTP face; Ray calls this once the replica is constructed."""
        about = {**self._bundle.manifest, "topology": self._args.topology}
        return Application(self.recommend, self.ready, about, self._args.max_k, self._args.max_body)

    async def recommend(self, request: Request) -> dict[str, Any]:
        """Answer one request, in a batch with others that wait."""
        answer: dict[str, Any] = await self._batched(request)
        return answer

    async def ready(self) -> None:
        """Raise where the second stage does not answer."""
        if self._remote is not None:
            await self._remote.version.remote()

    async def _recommend(self, requests: list[Request]) -> list[dict[str, Any]]:
        found = self._retrieval.retrieve(requests)
        items, scores = await self._ranked(found, max(request.k for request in requests))
        return answers(self._bundle, requests, found, items, scores)

    async def _ranked(self, found: Retrieved, k: int) -> tuple[Array, Array]:
        if self._local is not None:
            return self._local.rank(found.queries, found.vectors, found.candidates, k)
        assert self._remote is not None
        ranked: tuple[Array, Array] = await self._remote.rank.remote(pack(found, k))
        return ranked
