import asyncio
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards import MathGrade, grade_math, grade_math_async, grade_math_batch
from reason_envs.rewards.math.worker_pool import GradingPool

RIGHT = (r"so \boxed{(x+1)^2}", "x^2+2x+1")
WRONG = (r"so \boxed{(x-1)^2}", "x^2+2x+1")


@pytest.mark.parametrize(
    ("response", "answer", "grade"),
    [
        (r"it is \boxed{42}", "42", MathGrade(True, "42", "string_match")),
        (r"it is \boxed{1,042.0}", "1042", MathGrade(True, "1,042.0", "equal")),
        (r"it is \boxed{43}", "42", MathGrade(False, "43", "different")),
        ("it is 42", "42", MathGrade(False, None, "no_answer")),
        (r"it is \boxed{40+2}", "42", MathGrade(False, "40+2", "unevaluated")),
        (r"it is \boxed{\frac{42}", "42", MathGrade(False, None, "no_answer")),
        (r"it is \boxed{\approx 42}", "42", MathGrade(True, r"\approx 42", "string_match")),
        (r"it is \boxed 42.", "42", MathGrade(True, "42.", "string_match")),
        (r"\boxed{4} or \boxed{42}", "42", MathGrade(False, r"4 \text{or} 42", "different")),
        (r"it is \boxed{x = 10,080}", "10080", MathGrade(True, "x = 10,080", "equal")),
        (
            r"it is \boxed{v_{0} = \text{Friday}}",
            r"\text{Friday}",
            MathGrade(True, r"v_{0} = \text{Friday}", "string_match"),
        ),
        (r"it is \boxed{y = x + 1}", "y=1+x", MathGrade(True, "y = x + 1", "equal")),
        (r"it is \boxed{y = x + 1}", "x=y", MathGrade(False, "y = x + 1", "different")),
        (r"it is \boxed{0.5}", r"\frac12", MathGrade(True, "0.5", "equal")),
        (r"it is \boxed{0.5}", r"so \boxed{\frac12}", MathGrade(True, "0.5", "equal")),
    ],
)
def test_grade_math_known_values(response, answer, grade):
    assert grade_math(response, answer) == grade


def test_grade_math_uses_no_fallback_by_default():
    assert grade_math("#### 42", "42").reason == "no_answer"
    assert grade_math("#### 42", "42", ("####",)).correct
    assert grade_math("it is 42.", "42", ["last_number"]).correct


def test_grade_math_refuses_an_empty_gold_answer():
    with pytest.raises(ReasonEnvsError, match="gold answer ' '"):
        grade_math(r"\boxed{1}", " ")


def test_grade_math_in_sixteen_threads():
    pairs = [(rf"\boxed{{x^2+{i % 7}}}", f"{i % 5}+x^2") for i in range(160)]
    with ThreadPoolExecutor(16) as executor:
        grades = list(executor.map(lambda pair: grade_math(*pair), pairs))
    assert [grade.correct for grade in grades] == [i % 7 == i % 5 for i in range(160)]


def test_grade_math_inside_an_event_loop():
    async def grade():
        blocking = grade_math(*RIGHT)
        awaited = await asyncio.gather(*(grade_math_async(*pair) for pair in [RIGHT, WRONG] * 10))
        return [blocking, *awaited]

    assert [grade.correct for grade in asyncio.run(grade())] == [True] + [True, False] * 10


def test_event_loops_in_several_threads_share_the_workers():
    results: list[bool] = []

    def work():
        results.append(asyncio.run(grade_math_async(*RIGHT)).correct)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


@pytest.fixture
def pool(monkeypatch):
    """Workers of this test alone, with a short limit."""
    own = GradingPool(workers=2, limit=3.0)
    monkeypatch.setattr("reason_envs.rewards.math.grade.DEFAULT_POOL", own)
    yield own
    own.close()


@pytest.mark.usefixtures("pool")
def test_grade_math_async_does_not_block_the_event_loop():

    async def ticks_while_grading():
        grading = asyncio.ensure_future(grade_math_async(r"\boxed{9^{9^{9}}}", "1"))
        ticks = 0
        while not grading.done():
            await asyncio.sleep(0.05)
            ticks += 1
        return ticks, grading.result()

    ticks, found = asyncio.run(ticks_while_grading())
    assert ticks > 10
    assert found == MathGrade(False, "9^{9^{9}}", "timeout")


def test_grade_math_keeps_an_alarm_of_the_caller():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        start = time.monotonic()
        while time.monotonic() - start < 0.6:
            assert grade_math(*RIGHT).correct
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(rung) == 1


@pytest.mark.usefixtures("pool")
def test_grade_math_batch_keeps_order_and_continues_after_timeouts():
    grades = grade_math_batch([RIGHT, (r"\boxed{9^{9^{9}}}", "1"), WRONG, RIGHT])
    assert [grade.reason for grade in grades] == ["equal", "timeout", "different", "equal"]


def test_grade_math_of_plain_numbers_starts_no_process(pool):
    grades = grade_math_batch([(rf"\boxed{{{i}}}", str(i // 2)) for i in range(100)])
    assert sum(grade.correct for grade in grades) == 1
    assert pool._idle == []


def test_cancelled_grade_leaves_the_pool_usable():
    async def cancel_one():
        task = asyncio.ensure_future(grade_math_async(*RIGHT))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await grade_math_async(*RIGHT)

    assert asyncio.run(cancel_one()).correct
