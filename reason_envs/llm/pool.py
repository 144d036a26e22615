"""Several replicas of an engine, used as one engine."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from reason_envs.batching import MicroBatcher, outermost_slot
from reason_envs.errors import EngineError, RunError
from reason_envs.llm.engine import Generation, GenerationRequest, TrainableEngine
from reason_envs.llm.replica import LostReplicaError, Replica, arrays
from reason_envs.loop_thread import LoopThread

RESTARTS = 3
"""Number of times that each replica of a pool is started again."""
SPREAD = 0.01
"""Maximum mean difference of a token's log-probability between two replicas with equal weights (nats)."""


@dataclass(eq=False)
class _Seat:
    """The place of a replica in a pool."""

    replica: Any = None
    restart: asyncio.Task | None = None
    restarts: int = RESTARTS
    tokens: int = 0


@dataclass(eq=False)
class _Call:
    request: GenerationRequest
    episode: tuple[Any, int] | None
    tokens: int


class EnginePool(TrainableEngine):
    """Sends each request to the replica with the fewest running tokens.

    The calls of one episode, which is a coroutine of the outermost `reason_envs.batching.gather`, stay on one replica.
    If a replica dies, others answer its requests with the same seeds. It is started again, gets the present weights,
    and must reproduce digest and scores of the others before it answers requests. Weights go to all replicas; their
    digests must be equal, and so must their scores, except for rounding. Requests do not use prefix caches of earlier
    requests.

    Args:
        start: starts a replica and returns it with the attributes that `ServedEngine.open` returns.
        replicas: number of replicas.
        put: copies weights to where all replicas can read them.

    Raises:
        EngineError: a replica does not start.
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[tuple[Replica, dict[str, Any]]]],
        replicas: int,
        put: Callable[[Any], Any] = copy.deepcopy,
    ) -> None:
        self._start, self._put = start, put
        self._seats = [_Seat() for _ in range(replicas)]
        self._homes: WeakKeyDictionary[Any, dict[int, _Seat]] = WeakKeyDictionary()
        self._weights: dict[str | None, tuple[Any, int]] = {}
        self._checks: dict[tuple[str, str | None], tuple[tuple[Any, ...], Any]] = {}
        self._error: Exception | None = None
        self._thread: LoopThread = LoopThread("reason_envs-pool")
        self._batcher = MicroBatcher[_Call, list[Generation]](lambda calls: self._thread.run(self._answer(calls)))
        self.continuous: bool
        vars(self).update(self._thread.run(self._open()))

    async def _open(self) -> dict[str, Any]:
        started = await asyncio.gather(*(self._start() for _ in self._seats))
        for seat, (replica, _) in zip(self._seats, started, strict=True):
            seat.replica = replica
        return started[0][1]

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples."""
        tokens = request.n * request.sampling.max_tokens
        call = _Call(replace(request, keep_prefix=False, prefix_cache=None), outermost_slot(), tokens)
        if not self.continuous:
            return await self._batcher(call)
        return (await self._thread.answer(self._answer([call])))[0]

    async def score(
        self, token_ids: list[int], prompt_length: int, temperature: float = 1.0, adapter: str | None = None
    ) -> list[float]:
        """Return the log-probability of each token after the prompt. All replicas must agree."""
        return await self._thread.answer(self._agreed("score", token_ids, prompt_length, temperature, adapter))

    def weights_digest(self, adapter: str | None = None) -> str | None:
        """Return the hash of the weights of all replicas, which must be equal."""
        return self._thread.run(self._agreed("weights_digest", adapter))

    def load_weights(self, source: Mapping[str, Tensor] | Path, version: int, adapter: str | None = None) -> None:
        """Replace the weights of all replicas (see `TrainableEngine.load_weights`)."""
        self._thread.run(self._load(source, version, adapter))

    def close(self) -> None:
        """End the replicas."""
        if self._seats:
            self._thread.close()
        for seat in self._seats:
            if seat.replica is not None:
                seat.replica.close()
        self._seats = []

    # --- inside the thread

    async def _answer(self, calls: Sequence[_Call]) -> list[list[Generation]]:
        """Answer calls: those of a replica together."""
        live = await self._live()
        shares: dict[_Seat, list[int]] = {}
        for place, call in enumerate(calls):
            scope, slot = call.episode or (call, 0)
            homes = self._homes.setdefault(scope, {})
            if homes.get(slot) not in live:
                homes[slot] = min(live, key=lambda seat: seat.tokens)
            seat = homes[slot]
            seat.tokens += call.tokens
            shares.setdefault(seat, []).append(place)
        asked = [self._generate(seat, [calls[place] for place in places]) for seat, places in shares.items()]
        answers: dict[int, list[Generation]] = {}
        for places, part in zip(shares.values(), await asyncio.gather(*asked), strict=True):
            answers |= zip(places, part, strict=True)
        return [answers[place] for place in range(len(calls))]

    async def _generate(self, seat: _Seat, calls: Sequence[_Call]) -> list[list[Generation]]:
        try:
            return await self._call(seat, "generate", [call.request for call in calls])
        except LostReplicaError:
            pass
        finally:
            seat.tokens -= sum(call.tokens for call in calls)
        return await self._answer(calls)

    async def _call(self, seat: _Seat, method: str, *arguments: Any) -> Any:
        """Call a replica. If it is lost, it is started again."""
        if (replica := seat.replica) is None:
            raise LostReplicaError("Another call has lost the replica.")
        try:
            return await replica.call(method, *arguments)
        except LostReplicaError as error:
            if seat.replica is replica:
                replica.close()
                seat.replica, self._error = None, error
                seat.restart = asyncio.ensure_future(self._restart(seat))
            raise

    async def _live(self) -> list[_Seat]:
        """Return the seats whose replicas answer. If none does, wait for a restart."""
        while not (live := [seat for seat in self._seats if seat.replica is not None]):
            restarts = [seat.restart for seat in self._seats if seat.restart is not None]
            if not restarts:
                raise RunError(f"No replica of the engine is left after {RESTARTS} restarts of each: {self._error}")
            await asyncio.wait(restarts, return_when=asyncio.FIRST_COMPLETED)
        return live

    async def _restart(self, seat: _Seat) -> None:
        """Start a lost replica again. It answers requests when it has the present weights."""
        while seat.replica is None and seat.restarts:
            seat.restarts -= 1
            replica: Replica | None = None
            try:
                replica, _ = await self._start()
                for adapter, (source, version) in list(self._weights.items()):
                    await replica.call("load_weights", source, version, adapter)
                for (method, _), (arguments, answer) in list(self._checks.items()):
                    _compare(answer, await replica.call(method, *arguments))
                seat.replica = replica
            except Exception as error:  # noqa: BLE001  (it ends the run if no other replica is left)
                self._error = error
                if replica is not None:
                    replica.close()
        seat.restart = None

    async def _load(self, source: Mapping[str, Tensor] | Path, version: int, adapter: str | None) -> None:
        await self._settle()
        if isinstance(source, Path):
            stored = self._put({file.name: file.read_bytes() for file in source.iterdir()})
        else:  # full weights remove all adapters
            stored, self._weights = self._put(arrays(source)), {}
        self._weights[adapter] = (stored, version)
        self._checks.clear()
        await self._everywhere("load_weights", stored, version, adapter)

    async def _agreed(self, method: str, *arguments: Any) -> Any:
        """Call all replicas and compare their answers, which a replica that is started later must give, too."""
        answer, *others = await self._everywhere(method, *arguments)
        for other in others:
            _compare(answer, other)
        self._checks[method, arguments[-1]] = (arguments, answer)
        return answer

    async def _everywhere(self, method: str, *arguments: Any) -> list[Any]:
        """Call all replicas at the same time."""
        await self._settle()
        calls = (self._call(seat, method, *arguments) for seat in await self._live())
        answers = await asyncio.gather(*calls, return_exceptions=True)
        kept = [answer for answer in answers if not isinstance(answer, LostReplicaError)]
        for answer in kept:
            if isinstance(answer, BaseException):
                raise answer
        return kept or await self._everywhere(method, *arguments)

    async def _settle(self) -> None:
        """Wait until no replica restarts."""
        while restarts := [seat.restart for seat in self._seats if seat.restart is not None]:
            await asyncio.wait(restarts)


def _compare(one: Any, other: Any) -> None:
    """Check that two replicas give the same answer. Scores can differ by rounding."""
    if isinstance(one, list):
        same = sum(abs(a - b) for a, b in zip(one, other, strict=True)) <= SPREAD * len(one)
    else:
        same = one == other
    if not same:
        raise EngineError(f"Replicas of the engine have different weights: they answer {one} and {other}.")
