"""Replicas in this process, and engines whose answers depend on seeds and weights alone."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import torch

from reason_envs.core import derive_seed
from reason_envs.errors import EngineError
from reason_envs.llm import make_engine
from reason_envs.llm.engine import Capability, Generation, GenerationRequest, Sampling, TrainableEngine
from reason_envs.llm.pool import EnginePool
from reason_envs.llm.replica import LostReplicaError, ServedEngine


class SeededEngine(TrainableEngine):
    """Draws tokens from the seed. A request waits ``seconds`` for one of ``slots`` places."""

    capabilities = frozenset({Capability.LOG_PROBS, Capability.TRAINABLE, Capability.ADAPTERS})
    dtype = torch.float32
    continuous = True

    def __init__(self, seconds: float = 0.0, slots: int = 1000, device: str = "cpu", continuous: bool = True):
        self.continuous = continuous
        self.seconds, self.places = seconds, asyncio.Semaphore(slots)
        self.weights, self.version, self.requests = {}, 0, []

    async def generate(self, request):
        self.requests.append(request)
        async with self.places:
            await asyncio.sleep(self.seconds)
        rows = [[derive_seed(request.seed, i, t) % 100 for t in range(4)] for i in range(request.n)]
        return [Generation("", row, [0.0] * 4, "length", self.version, [1]) for row in rows]

    def load_weights(self, source, version, adapter=None):
        is_folder = not isinstance(source, dict)
        files = {path.name: path.read_bytes() for path in source.iterdir()} if is_folder else None
        self.weights[adapter] = files or {name: tensor.clone() for name, tensor in source.items()}
        self.version = version

    async def score(self, token_ids, prompt_length, temperature=1.0, adapter=None):
        shift = float(self.weights[None]["w"].sum()) if None in self.weights else 0.0
        return [shift - token for token in token_ids[prompt_length:]]

    def weights_digest(self, adapter=None):
        return str(self.weights.get(adapter))


class ToyReplica:
    """A replica in this process that `kill` ends."""

    def __init__(self, engine, kill_at=None):
        self.served, self.calls, self.lost, self.is_closed = ServedEngine(), [], asyncio.Event(), False
        self.engine, self.kill_at = engine, kill_at

    def kill(self):
        self.lost.set()

    async def call(self, method, *arguments):
        self.calls.append(method)
        if method == "open":
            arguments = (self.engine,)
        if self.kill_at == self.calls.count("generate"):
            self.kill()
        answer = asyncio.ensure_future(getattr(self.served, method)(*arguments))
        lost = asyncio.ensure_future(self.lost.wait())
        await asyncio.wait([answer, lost], return_when=asyncio.FIRST_COMPLETED)
        lost.cancel()
        if self.lost.is_set():
            answer.cancel()
            raise LostReplicaError("The replica was killed.")
        return answer.result()

    def close(self):
        self.is_closed = True


class ToyPool:
    """A pool of toy replicas; ``started`` has all of them, in order."""

    def __init__(self, replicas, make=SeededEngine, failing=()):
        self.started, self.make, self.failing = [], make, failing
        self.pool = EnginePool(self.start, replicas)

    async def start(self):
        replica = ToyReplica(self.make())
        self.started.append(replica)
        if len(self.started) - 1 in self.failing:
            raise EngineError("It does not start.")
        return replica, await replica.call("open", None)

    def kill(self, number):
        self.pool._thread.run(self._kill(number))

    async def _kill(self, number):
        self.started[number].kill()

    def requests(self, number):
        return self.started[number].engine.requests


def request(seed, max_tokens=10, n=1):
    return GenerationRequest([1], seed, Sampling(max_tokens=max_tokens), n=n)


class ToyCluster:
    """Holds engines in toy replicas. The first one is lost at its ``kill_at``-th call of ``generate``."""

    def __init__(self, replicas=1, kill_at=None, restarts_fail=False):
        self.replicas, self.kill_at, self.restarts_fail = replicas, kill_at, restarts_fail
        self.pools, self.started, self.is_closed = [], [], False

    def engine(self, spec):
        async def start():
            if self.restarts_fail and len(self.started) >= self.replicas:
                raise EngineError("The computer is gone.")
            replica = ToyReplica(make_engine(spec), kill_at=self.kill_at if not self.started else None)
            self.started.append(replica)
            return replica, await replica.call("open", None)

        self.pools.append(EnginePool(start, self.replicas))
        return self.pools[-1]

    @contextmanager
    def sandboxes(self):
        yield

    def close(self):
        self.is_closed = True
        for pool in self.pools:
            pool.close()
