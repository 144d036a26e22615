"""Prefix caches of step reward models: only new steps are read, and scores do not change."""

import asyncio

import pytest

from reason_envs.batching import gather
from reason_envs.reward_models import StepScoreRequest, make_reward_model

QUESTION = "State the final answer to the following arithmetic problem: 12 + 30 - 5 ="
STEPS = ("12 + 30 = 42", "42 - 5 = 37", "\\boxed{37}")


@pytest.fixture
def model():
    return make_reward_model("transformers", device="cpu")


def scored(model, *requests):
    async def run():
        return await gather(*map(model.score, requests))

    return asyncio.run(run())


def kept(steps, prefix_cache=None):
    return StepScoreRequest(QUESTION, steps, keep_prefix=True, prefix_cache=prefix_cache)


def plain(model, *solutions):
    return scored(model, *(StepScoreRequest(QUESTION, steps) for steps in solutions))


def test_step_prefix_cache_does_not_change_scores(model):
    (first,) = scored(model, kept(STEPS[:1]))
    second, sibling, other = scored(
        model,
        kept(STEPS[:2], first.prefix_cache),
        kept((STEPS[0], "42 - 5 = 38"), first.prefix_cache),
        kept(("12 + 30 = 52", "a longer step"), first.prompt_prefix_cache),
    )
    (third,) = scored(model, kept(STEPS, second.prefix_cache))
    expected = plain(model, STEPS, (STEPS[0], "42 - 5 = 38"), ("12 + 30 = 52", "a longer step"))
    for ours, theirs in zip((third, sibling, other), expected, strict=True):
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)


def test_step_prefix_cache_leaves_the_new_step_to_read(model):
    (first,) = scored(model, kept(STEPS[:1]))
    before, whole = model.scored_tokens, model.count_tokens(kept(STEPS[:2]))
    assert before == model.count_tokens(kept(STEPS[:1]))
    (second,) = scored(model, kept(STEPS[:2], first.prefix_cache))
    assert model.scored_tokens == whole
    scored(model, kept(("12 + 30 = 52",), first.prompt_prefix_cache))
    assert whole < model.scored_tokens < whole + before
    assert second.prefix_cache.prefix.parent is first.prefix_cache.prefix


def test_step_prefix_cache_of_other_steps_is_not_used(model):
    (first,) = scored(model, kept(("12 + 30 = 43",)))
    (second,) = scored(model, kept(STEPS[:2], first.prefix_cache))
    assert second.scores == pytest.approx(plain(model, STEPS[:2])[0].scores, abs=1e-5)


def test_step_prefix_cache_is_not_freed_during_a_batch():
    model = make_reward_model("transformers", device="cpu", max_batch_tokens=100)
    firsts = scored(model, *(kept((f"12 + 30 = {n}",)) for n in range(20)))
    model.reader.store.limit_bytes = model.reader.store.held_bytes + 1
    steps = [(f"12 + 30 = {n}", f"{n} - 5 = {n - 5}") for n in range(20)]
    seconds = scored(model, *(kept(s, f.prefix_cache) for s, f in zip(steps, firsts, strict=True)))
    for ours, theirs in zip(seconds, plain(model, *steps), strict=True):
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)
    assert model.reader.store.held_bytes <= model.reader.store.limit_bytes


def test_step_prefix_cache_reads_a_solution_from_the_part_that_is_left():
    model = make_reward_model("transformers", device="cpu")
    (first,) = scored(model, kept(STEPS[:1]))
    (second,) = scored(model, kept(STEPS[:2], first.prefix_cache))
    model.reader.store.limit_bytes = model.reader.store.held_bytes - 1
    model.reader.store.trim()
    assert second.prefix_cache.prefix.states is None
    before = model.scored_tokens
    (third,) = scored(model, kept(STEPS, second.prefix_cache))
    (alone,) = plain(model, STEPS)
    assert third.scores == pytest.approx(alone.scores, abs=1e-5)
    read = model.scored_tokens - before
    assert len(third.prefix_cache.token_ids) < read < 2 * len(third.prefix_cache.token_ids)
    assert 0 < model.reread_tokens < read


def test_step_prefix_cache_is_kept_only_on_request(model):
    assert plain(model, STEPS)[0].prefix_cache is None
    forgetful = make_reward_model("transformers", device="cpu", prefix_cache_mb=0)
    assert scored(forgetful, kept(STEPS))[0].prefix_cache is None
