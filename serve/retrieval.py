"""Stage 1 as the HTTP ingress, with dynamic micro-batching of requests."""

from dataclasses import replace
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve.config import ServeArgs
from serve.http import Application
from serve.loopback import bind_to_node
from serve.ranking import Ranked, pack
from train.bundle.bundle import open_bundle
from train.recommender.answers import answers, rank_retrieved
from train.recommender.requests import Request, Retrieved
from train.recommender.retrieval import retrieve


class OtherBundleError(RuntimeError):
    """The stages have different bundles, as they do while an application is updated."""


class RetrievalReplica:
    """Answers HTTP: retrieves, has the candidates ranked, and names the items.

    Args:
        args: the application's settings.
        ranking: the second stage's deployment; None runs the second stage in here.
    """

    def __init__(self, args: ServeArgs, ranking: DeploymentHandle[Any] | None = None) -> None:
        bind_to_node()
        self._args = args
        bundle = open_bundle(args.bundle)
        count = bundle.recommender.candidates if args.candidates is None else args.candidates
        self._recommender = replace(bundle.recommender, candidates=count)
        self._about = {**bundle.manifest, "topology": args.topology}
        self._ranking = ranking
        self._warm_up()
        # One batch is computed while another waits for its ranking: a single one halves the rate.
        self._batched = serve.batch(
            max_batch_size=args.max_batch, batch_wait_timeout_s=0.0, max_concurrent_batches=2
        )(self._recommend)

    def _warm_up(self) -> None:
        """Load the tower and fill the caches now, not while the first request waits."""
        known = Request(history=[self._recommender.items.ids[0].as_py()], k=1)
        retrieved = retrieve(self._recommender, [known])
        if self._ranking is None:
            rank_retrieved(self._recommender, [known], retrieved)

    def __serve_build_asgi_app__(self) -> Application:
        """Return the ASGI application; Ray calls this once the replica is constructed."""
        limits = self._args.max_k, self._args.max_body
        return Application(self.recommend, self.ready, self._about, *limits)

    async def recommend(self, request: Request) -> dict[str, Any]:
        """Answer one request, batched with others that wait."""
        answer: dict[str, Any] = await self._batched(request)
        return answer

    async def ready(self) -> None:
        """Raise where the second stage does not answer, or has another bundle."""
        if self._ranking is None:
            return
        ours, theirs = self._recommender.version, await self._ranking.version.remote()
        if ours != theirs:
            raise OtherBundleError(f"stage 1 has bundle {ours}, stage 2 has {theirs}")

    async def _recommend(self, requests: list[Request]) -> list[dict[str, Any]]:
        retrieved = retrieve(self._recommender, requests)
        ranked = await self._ranked(requests, retrieved)
        return answers(self._recommender, requests, retrieved, *ranked)

    async def _ranked(self, requests: list[Request], retrieved: Retrieved) -> Ranked:
        if self._ranking is not None:
            most = max(request.k for request in requests)
            message = pack(retrieved, most)
            ranked: Ranked | None = await self._ranking.rank.remote(
                self._recommender.version, message
            )
            if ranked is not None:
                return ranked
        # While an application is updated, stage 2 may have another bundle; this one has both.
        return rank_retrieved(self._recommender, requests, retrieved)
