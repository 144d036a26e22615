"""Concurrent calls are answered together, in a fixed order."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextvars import ContextVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_toys import longest_silence

from reason_envs.batching import MicroBatcher, abandoned, gather
from reason_envs.errors import ReasonEnvsError


class Recorder:
    """A batched function that doubles numbers and records its batches."""

    def __init__(self, max_batch_size=None):
        self.batches = []
        self.batcher = MicroBatcher(self._double, max_batch_size)

    def _double(self, requests):
        self.batches.append(list(requests))
        return [2 * r for r in requests]


def run(coroutine):
    async def limited():
        async with asyncio.timeout(5):
            return await coroutine

    return asyncio.run(limited())


def test_gather_batches_64_tasks_of_three_calls_into_three_batches():
    recorder = Recorder()

    async def play(slot):
        return [await recorder.batcher(100 * turn + slot) for turn in range(3)]

    answers = run(gather(*(play(s) for s in range(64))))
    assert answers == [[2 * s, 200 + 2 * s, 400 + 2 * s] for s in range(64)]
    assert recorder.batches == [[100 * turn + s for s in range(64)] for turn in range(3)]
    assert (recorder.batcher.calls, recorder.batcher.requests) == (3, 192)


def test_batches_are_sorted_by_slot_and_call():
    recorder = Recorder()

    async def play(slot):
        await asyncio.sleep(0.01 * (3 - slot))
        return await gather(recorder.batcher(10 * slot), recorder.batcher(10 * slot + 1))

    assert run(gather(*(play(s) for s in range(3)))) == [[0, 2], [20, 22], [40, 42]]
    assert recorder.batches == [[0, 1, 10, 11, 20, 21]]


def test_slots_order_the_calls():
    recorder = Recorder()
    assert run(gather(recorder.batcher(1), recorder.batcher(2), slots=[9, 4])) == [2, 4]
    assert recorder.batches == [[2, 1]]


def test_tasks_that_await_something_else_delay_the_flush():
    recorder = Recorder()

    async def slow():
        await asyncio.sleep(0.05)
        return await recorder.batcher(1)

    run(gather(slow(), recorder.batcher(2), asyncio.to_thread(lambda: None)))
    assert recorder.batches == [[1, 2]]


def test_children_delay_the_flush_until_their_parent_continues():
    recorder = Recorder()

    async def parent():
        await gather(asyncio.sleep(0), asyncio.sleep(0.01))
        return await recorder.batcher(1)

    run(gather(parent(), recorder.batcher(2)))
    assert recorder.batches == [[1, 2]]


def test_all_batchers_flush_together():
    first, second = Recorder(), Recorder()

    async def play(batcher):
        return [await batcher(1), await batcher(2)]

    run(gather(play(first.batcher), play(second.batcher), play(first.batcher)))
    assert (first.batches, second.batches) == ([[1, 1], [2, 2]], [[1], [2]])


def test_ended_tasks_do_not_delay_the_flush():
    recorder = Recorder()

    async def play(turns):
        return [await recorder.batcher(turn) for turn in range(turns)]

    run(gather(play(0), play(1), play(3)))
    assert recorder.batches == [[0, 0], [1], [2]]


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.integers(0, 3), lambda inner: st.lists(inner, max_size=4), max_leaves=12))
def test_nested_gathers_end_and_answer_every_call(plan):
    recorder = Recorder()

    async def play(part):
        if isinstance(part, list):
            results = await gather(*(play(p) for p in part))
            return [*results, await recorder.batcher(7)]
        return [await recorder.batcher(n) for n in range(part)]

    def expected(part):
        return [*map(expected, part), 14] if isinstance(part, list) else [2 * n for n in range(part)]

    assert run(gather(play(plan), play(plan))) == [expected(plan)] * 2
    assert all(len(batch) % 2 == 0 for batch in recorder.batches)


def test_max_batch_size_splits_a_flush():
    recorder = Recorder(max_batch_size=2)
    assert run(gather(*(recorder.batcher(n) for n in range(5)))) == [0, 2, 4, 6, 8]
    assert recorder.batches == [[0, 1], [2, 3], [4]]
    with pytest.raises(ReasonEnvsError, match="max_batch_size=0"):
        MicroBatcher(list, max_batch_size=0)


def test_calls_outside_a_scope_are_batched():
    recorder = Recorder()

    async def delayed(n):
        await asyncio.sleep(0)
        return await recorder.batcher(n)

    async def main():
        assert await recorder.batcher(1) == 2
        return await asyncio.gather(recorder.batcher(2), delayed(3), asyncio.create_task(delayed(4)))

    assert run(main()) == [4, 6, 8]
    assert recorder.batches[0] == [1]
    assert sorted(recorder.batches[1]) == [2, 3, 4]
    assert recorder.batcher.calls == 2


def test_scopes_that_flush_at_the_same_time_share_a_batch():
    """Sessions of a server are separate tasks, and an environment gathers the calls of a step."""
    recorder = Recorder()

    async def step(session):
        first = await gather(recorder.batcher(session), recorder.batcher(session + 100))
        return [*first, *await gather(recorder.batcher(session + 200))]

    async def main():
        return await asyncio.gather(*(step(session) for session in range(32)))

    assert run(main()) == [[2 * s, 200 + 2 * s, 400 + 2 * s] for s in range(32)]
    assert [len(batch) for batch in recorder.batches] == [64, 32]


def test_asyncio_gather_inside_a_scope_is_answered():
    recorder = Recorder()

    async def play(slot):
        await asyncio.gather(recorder.batcher(slot), recorder.batcher(slot + 10))
        return await recorder.batcher(slot + 20)

    run(gather(play(0), play(1)))
    assert [sorted(b) for b in recorder.batches] == [[0, 1, 10, 11], [20, 21]]


def test_exceptions_reach_every_caller():
    def broken(requests):
        raise ValueError("no weights")

    batcher = MicroBatcher(broken)
    caught = []

    async def play():
        try:
            await batcher(1)
        except ValueError as error:
            caught.append(str(error))

    run(gather(play(), play()))
    assert caught == ["no weights"] * 2
    with pytest.raises(ValueError, match="no weights"):
        run(gather(batcher(1), batcher(2)))
    with pytest.raises(ValueError, match="no weights"):
        run(batcher(1))


@pytest.mark.parametrize(
    ("function", "message"),
    [(lambda r: [], "0 answers for 1 requests"), (lambda r: next(iter([])), "raised StopIteration")],
)
def test_missing_answers_raise_an_error(function, message):
    with pytest.raises(RuntimeError, match=message):
        run(gather(MicroBatcher(function)(1)))


def test_a_failing_task_cancels_the_others_and_is_raised():
    recorder, ended = Recorder(), []

    async def patient():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def failing():
        await recorder.batcher(1)
        raise KeyError("here")

    async def play():
        with pytest.raises(KeyError, match="here"):
            await gather(failing(), recorder.batcher(5))
        return await recorder.batcher(3)

    assert run(gather(play(), recorder.batcher(2))) == [6, 4]
    with pytest.raises(KeyError, match="beside"):
        run(gather(_fail_soon(), patient()))
    assert ended == [True]


async def _fail_soon():
    await asyncio.sleep(0)
    raise KeyError("beside")


def test_a_cancelled_caller_leaves_the_batch():
    recorder = Recorder()

    async def impatient():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await gather(recorder.batcher(1), asyncio.sleep(60))
        return await recorder.batcher(2)

    assert run(gather(impatient(), recorder.batcher(3))) == [4, 6]
    assert recorder.batches == [[2, 3]]


def test_a_batcher_works_after_a_cancelled_scope():
    recorder = Recorder()

    async def main():
        task = asyncio.create_task(gather(recorder.batcher(1), asyncio.sleep(60)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await gather(recorder.batcher(2))

    assert run(main()) == [4]
    assert recorder.batches == [[2]]


def test_one_batcher_serves_event_loops_in_several_threads():
    recorder = Recorder()
    results = [None, None]

    def work(index):
        results[index] = run(gather(*(recorder.batcher(n) for n in range(50))))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[2 * n for n in range(50)]] * 2
    assert recorder.batches == [list(range(50))] * 2


class Held:
    """A batched function that returns when it is released."""

    def __init__(self):
        self.batches, self.started, self.released = [], threading.Event(), threading.Event()
        self.batcher = MicroBatcher(self._answer)

    def _answer(self, requests):
        self.batches.append(list(requests))
        self.started.set()
        assert self.released.wait(5)
        return requests

    async def start(self):
        while not self.started.is_set():
            await asyncio.sleep(0.001)


def test_event_loop_runs_while_the_function_does():
    batcher = MicroBatcher(lambda requests: time.sleep(1) or requests)

    async def blocking():
        time.sleep(1)

    assert run(longest_silence(gather(batcher(1), batcher(2)))) < 0.5
    assert run(longest_silence(blocking())) >= 1


def test_calls_that_arrive_during_a_batch_join_the_callers_of_that_batch():
    held = Held()

    async def play():
        return [await held.batcher(1), await held.batcher(2)]

    async def main():
        playing = asyncio.create_task(play())
        await held.start()
        late = asyncio.create_task(held.batcher(3))
        await asyncio.sleep(0.05)
        held.released.set()
        return await playing, await late

    assert run(main()) == ([1, 2], 3)
    assert [sorted(batch) for batch in held.batches] == [[1], [2, 3]]


def test_batches_that_settle_together_are_answered_together():
    """The first answers wait for the second batch, as if the functions ran in the event loop's thread."""
    log = []

    def logged(name):
        return MicroBatcher(lambda requests: log.append(name) or time.sleep(0.05) or requests)

    async def play(name, batcher):
        await batcher(0)
        log.append(f"{name} continues")

    run(gather(*(play(name, logged(name)) for name in "abc")))
    assert log == ["a", "b", "c", "a continues", "b continues", "c continues"]


def test_a_caller_that_is_cancelled_during_its_batch_waits_for_the_function():
    held = Held()

    async def main():
        playing = asyncio.create_task(gather(held.batcher(1), held.batcher(2)))
        await held.start()
        playing.cancel()
        await asyncio.sleep(0.05)
        playing.cancel()
        await asyncio.sleep(0.05)
        assert not playing.done()
        held.released.set()
        with pytest.raises(asyncio.CancelledError):
            await playing
        return await held.batcher(3)

    assert run(main()) == 3
    assert held.batches == [[1, 2], [3]]


def test_function_can_end_when_all_its_callers_are_cancelled():
    started, seen = threading.Event(), []

    def function(requests):
        started.set()
        ends = time.monotonic() + 20
        while not abandoned() and time.monotonic() < ends:
            time.sleep(0.001)
        seen.append(abandoned())
        raise ValueError("nobody reads this")

    async def main(cancelled):
        batcher = MicroBatcher(function)
        tasks = [asyncio.create_task(batcher(n)) for n in range(2)]
        await asyncio.to_thread(started.wait)
        for task in tasks[:cancelled]:
            task.cancel()
        started.clear()
        await asyncio.sleep(0.1)
        ended = list(seen)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return ended

    assert run(main(cancelled=1)) == []
    assert run(main(cancelled=2)) == [True, True]  # the first of the run before
    assert not abandoned()


def test_function_sees_context_variables_and_has_one_thread():
    variable, seen = ContextVar("variable", default=0), []
    batcher = MicroBatcher(lambda r: seen.append((variable.get(), threading.current_thread().name)) or r)

    async def main():
        variable.set(7)
        await batcher(1)
        await batcher(2)

    run(main())
    assert seen[0] == seen[1]
    assert seen[0][0] == 7
    assert seen[0][1] != threading.current_thread().name


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
def test_an_exit_inside_the_function_ends_the_event_loop(error):
    def leave(requests):
        raise error

    with pytest.raises(type(error)):
        run(gather(MicroBatcher(leave)(1)))


def test_a_batcher_works_in_a_forked_process():
    recorder = Recorder()
    assert run(recorder.batcher(1)) == 2
    child = os.fork()
    if not child:
        os._exit(run(recorder.batcher(21)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def test_gather_accepts_no_coroutines_and_rejects_wrong_slots():
    assert run(gather()) == []
    coroutine = asyncio.sleep(0)
    with pytest.raises(ReasonEnvsError, match="2 slots for 1 coroutines"):
        run(gather(coroutine, slots=[1, 2]))
    coroutine.close()
