"""Combines concurrent awaited calls into one call on a list.

Environments await a generator, a reward model or a grader, one request at a time. `MicroBatcher` holds these calls
until no task can continue. It then answers all of them with one call of a function on lists, beside the event loop::

    batcher = MicroBatcher(generate_batch)            # list of requests -> list of answers
    answers = await gather(*(play(env, batcher) for env in environments))

`gather` opens a scope, or extends the scope in which it is called, and counts the running tasks. When all tasks of the
scope wait for batchers, every batcher flushes. Calls are sorted by the place where they were made, so that batches are
the same in every run. A task that waits for anything else (a sandbox, HTTP) counts as running and delays the flush.

* A call outside any scope, or from a task that ``asyncio.gather`` or ``create_task`` started, is answered as soon as
  the event loop is idle and no batch runs, together with the calls that scopes flush in the meantime.
* A task of a scope must not wait for another one through a semaphore or an event, because the flush would wait for
  both. Use ``max_batch_size`` to limit the work per call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from reason_envs.errors import OptionError, ReasonEnvsError

Request = TypeVar("Request")
Answer = TypeVar("Answer")
T = TypeVar("T")

SETTLE_TICKS = 3
"""Turns of the event loop without a new call before calls outside a scope, and flushed calls, are answered."""
BATCHERS: WeakSet[MicroBatcher[Any, Any]] = WeakSet()
"""All batchers of the process."""


class MicroBatcher(Generic[Request, Answer]):
    """Answers concurrent awaited calls with one call of a function on a list.

    Args:
        function: maps a list of requests to the list of their answers, in order. It runs in a thread of the event
            loop, one call at a time, and must set ``torch.no_grad()`` itself. Callers receive its exceptions.
        max_batch_size: maximum number of requests per call; a larger flush becomes several calls. ``None``: no limit.
    """

    def __init__(
        self, function: Callable[[list[Request]], Sequence[Answer]], max_batch_size: int | None = None
    ) -> None:
        if max_batch_size is not None and max_batch_size < 1:
            raise OptionError("max_batch_size", max_batch_size, "must be at least 1, or None for no limit.")
        self.calls = 0
        """Number of calls of the function."""
        self.requests = 0
        """Number of requests in all calls."""
        self._function = function
        self._max_batch_size = max_batch_size
        self._lock = threading.Lock()
        self._loose: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
        BATCHERS.add(self)

    async def __call__(self, request: Request) -> Answer:
        """Wait for the batch of this request and return the answer."""
        if (member := _current_member()) is not None:
            return await member.scope.call(self, request, member.next_position())
        call = _Call(request, asyncio.get_running_loop().create_future(), ())
        self._hold([call])
        return await call.answer()

    def _hold(self, calls: list[_Call]) -> None:
        """Answer calls as soon as the event loop is idle, together with calls that arrive until then."""
        loop = asyncio.get_running_loop()
        waiting = self._loose.setdefault(loop, [])
        if not waiting:
            loop.call_soon(self._settle, loop, len(calls), SETTLE_TICKS)
        waiting += calls

    def _settle(self, loop: asyncio.AbstractEventLoop, seen: int, ticks: int) -> None:
        worker = _WORKERS.get(loop) or _WORKERS.setdefault(loop, _Worker())
        count = len(self._loose[loop])
        ticks = SETTLE_TICKS if count > seen else ticks
        if not ticks:
            self._start(worker, self._loose.pop(loop))
        elif worker.running:
            worker.when_idle.append(partial(self._settle, loop, count, ticks))
        else:
            loop.call_soon(self._settle, loop, count, ticks - 1)

    def _start(self, worker: _Worker, calls: Sequence[_Call]) -> None:
        """Call the function for the callers that still wait."""
        if waiting := [call for call in calls if not call.future.done()]:
            job = worker.start(partial(self._answers, waiting))
            for call in waiting:
                call.job = job
            worker.when_idle.append(partial(_deliver, waiting, job))

    def _answers(self, calls: list[_Call]) -> list[tuple[Answer | None, Exception | None]]:
        """Return the answer to each call, or the exception that its caller receives."""
        _CALLS.set(calls)  # in the job's own context
        answers: list[tuple[Answer | None, Exception | None]] = []
        size = self._max_batch_size or len(calls)
        for start in range(0, len(calls), size):
            batch = [call.request for call in calls[start : start + size]]
            try:
                answers += [(answer, None) for answer in self._call_function(batch)]
            except Exception as error:  # noqa: BLE001  (it is raised in every caller)
                answers += [(None, error)] * len(batch)
        return answers

    def _call_function(self, requests: list[Request]) -> Sequence[Answer]:
        with self._lock:
            self.calls += 1
            self.requests += len(requests)
            try:
                answers = self._function(requests)
            except StopIteration as error:  # a future cannot carry it
                raise RuntimeError("The batch function raised StopIteration.") from error
        if len(answers) != len(requests):
            raise RuntimeError(f"The batch function returned {len(answers)} answers for {len(requests)} requests.")
        return answers


def abandoned() -> bool:
    """Return whether all callers of the running batch function were cancelled. A long function then raises an error."""
    return bool(calls := _CALLS.get()) and all(call.future.cancelled() for call in calls)


async def gather(*coroutines: Coroutine[Any, Any, T], slots: Sequence[int] | None = None) -> list[T]:
    """Run coroutines concurrently, batch their calls, and return their results in order.

    Coroutines of an inner ``gather`` join the outer scope. The first exception is raised when all others are cancelled.

    Args:
        coroutines: coroutines, each of which becomes a separate task.
        slots: number of each coroutine, by which its calls are sorted within a batch; ``None``: 0, 1, 2, ...
    """
    if not coroutines:
        return []
    parent = _current_member()
    scope, prefix = (parent.scope, parent.next_position()) if parent else (_Scope(), ())
    numbers = list(range(len(coroutines)) if slots is None else slots)
    if len(numbers) != len(coroutines):
        raise ReasonEnvsError(f"{len(numbers)} slots for {len(coroutines)} coroutines: give one slot per coroutine.")
    left, tasks = len(coroutines), []

    def ended(_: asyncio.Task) -> None:
        nonlocal left
        left -= 1
        if left or parent is None:  # when the last one ends, the waiting parent runs again
            scope.stop_one()

    scope.running += len(coroutines) - (parent is not None)
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine, number in zip(coroutines, numbers, strict=True):
                context, member = copy_context(), _Member(scope, (*prefix, number))
                context.run(_MEMBER.set, member)
                member.task = group.create_task(coroutine, context=context)
                # A callback, because a task that is cancelled before its first step does not reach its own `finally`.
                member.task.add_done_callback(ended)
                tasks.append(member.task)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors.exceptions[0].__cause__
    return [task.result() for task in tasks]


@dataclass(eq=False)
class _Call:
    request: Any
    future: asyncio.Future
    position: tuple[int, ...]
    resumed: bool = False
    job: asyncio.Future | None = None

    async def answer(self) -> Any:
        """Wait for the answer. A caller that is cancelled waits until the function has returned."""
        try:
            return await self.future
        finally:
            while self.job is not None and not self.job.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([self.job])


def _deliver(calls: Sequence[_Call], job: asyncio.Future) -> None:
    for call, (answer, error) in zip(calls, job.result(), strict=True):
        if not call.future.done():  # a cancelled caller does not wait any more
            call.future.set_result(answer) if error is None else call.future.set_exception(error)


class _Worker:
    """The thread of an event loop's batch functions. Answers wait until none runs, so that their order is fixed."""

    def __init__(self) -> None:
        self.running = 0
        self.when_idle: list[Callable[[], None]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reason_envs-batch")

    def start(self, function: Callable[[], Any]) -> asyncio.Future:
        self.running += 1
        job = asyncio.get_running_loop().run_in_executor(self._thread, copy_context().run, function)
        job.add_done_callback(self._ended)
        return job

    def _ended(self, _: asyncio.Future) -> None:
        self.running -= 1
        if not self.running:
            callbacks, self.when_idle = self.when_idle, []
            for callback in callbacks:
                callback()


_WORKERS: WeakKeyDictionary[asyncio.AbstractEventLoop, _Worker] = WeakKeyDictionary()


@dataclass(eq=False)
class _Scope:
    """Counts the running tasks of one outermost `gather` and flushes when none is running."""

    running: int = 0
    waiting: dict[MicroBatcher, list[_Call]] = field(default_factory=dict)

    async def call(self, batcher: MicroBatcher, request: Any, position: tuple[int, ...]) -> Any:
        call = _Call(request, asyncio.get_running_loop().create_future(), position)
        self.waiting.setdefault(batcher, []).append(call)
        self.stop_one()
        try:
            return await call.answer()
        finally:
            self.resume(call)  # only a cancelled caller has not been resumed by the flush

    def stop_one(self) -> None:
        self.running -= 1
        if not self.running:
            asyncio.get_running_loop().call_soon(self.flush)

    def resume(self, call: _Call) -> None:
        if not call.resumed:
            call.resumed = True
            self.running += 1

    def flush(self) -> None:
        """Answer all waiting calls, unless a task runs again."""
        if self.running or not self.waiting:
            return
        waiting, self.waiting = self.waiting, {}
        for calls in waiting.values():
            calls.sort(key=lambda call: call.position)
        for batcher, calls in sorted(waiting.items(), key=lambda item: item[1][0].position):
            for call in calls:
                self.resume(call)
            batcher._hold(calls)  # other scopes may flush at the same time


@dataclass(eq=False)
class _Member:
    """A task that a scope counts, and the number of its calls and gathers."""

    scope: _Scope
    path: tuple[int, ...]
    task: asyncio.Task | None = None
    count: int = 0

    def next_position(self) -> tuple[int, ...]:
        self.count += 1
        return (*self.path, self.count)


_CALLS: ContextVar[Sequence[_Call]] = ContextVar("reason_envs_batch_calls", default=())
_MEMBER: ContextVar[_Member | None] = ContextVar("reason_envs_batch_member", default=None)


def _current_member() -> _Member | None:
    """Return the scope's record of the running task; ``None`` in a task that only inherited the variable."""
    member = _MEMBER.get()
    return member if member is not None and member.task is asyncio.current_task() else None


def outermost_slot() -> tuple[object, int] | None:
    """Return what the calls inside one coroutine of the outermost `gather` share. ``None`` outside of any scope."""
    member = _current_member()
    return None if member is None else (member.scope, member.path[0])
