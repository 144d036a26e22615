"""The step reward model that answers from a record."""

import asyncio

import pytest

from reason_envs.batching import gather
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engines.recorded.engine import RecordedEngine
from reason_envs.llm.engines.scripted import ScriptedEngine
from reason_envs.reward_models.base import (
    RandomStepRewardModel,
    ScriptedStepRewardModel,
    StepRewardModel,
    StepScoreRequest,
    make_reward_model,
)
from reason_envs.reward_models.recorded import RecordedStepRewardModel

REQUESTS = [StepScoreRequest("1 + é", ("a", "b", "c")[:i]) for i in range(1, 4)] + [StepScoreRequest("2", ("a",))]


def ask(model, requests=REQUESTS):
    async def together():
        return await gather(*(model.score(r) for r in requests))

    return [answer.scores for answer in asyncio.run(together())]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "record.jsonl")


def live_model():
    return ScriptedStepRewardModel(lambda question, steps: [1 / (3 + i + len(question)) for i in range(len(steps))])


def test_scores_and_tokens_from_the_record_are_the_live_ones(path):
    live = live_model()
    recording = RecordedStepRewardModel(path=path, live=live)
    assert ask(recording) == ask(live_model())
    assert ask(recording) == ask(recording)
    assert (live.batcher.calls, live.batcher.requests) == (1, 4)
    recording.close()
    replay = make_reward_model("recorded", path=path)
    assert isinstance(replay, StepRewardModel)
    assert ask(replay, REQUESTS[::-1]) == ask(live_model())[::-1]
    assert [replay.count_tokens(r) for r in REQUESTS] == [live.count_tokens(r) for r in REQUESTS]
    assert (replay.scored_tokens, replay.calls) == (sum(map(live.count_tokens, REQUESTS)), 4)


def test_no_steps_have_no_scores(path):
    RecordedStepRewardModel(path=path, live=live_model())
    assert ask(RecordedStepRewardModel(path=path), [StepScoreRequest("1", ())]) == [[]]


def test_missing_scores_are_an_error(path):
    ask(RecordedStepRewardModel(path=path, live=live_model()), REQUESTS[:1])
    replay = RecordedStepRewardModel(path=path)
    for call in (lambda: ask(replay), lambda: replay.count_tokens(REQUESTS[-1])):
        with pytest.raises(ReasonEnvsError, match=r"has no scores for .*Set the option live"):
            call()


def test_another_model_may_not_continue_a_record(path):
    RecordedStepRewardModel(path=path, live=live_model())
    with pytest.raises(ReasonEnvsError, match=r"ScriptedStepRewardModel.*RandomStepRewardModel"):
        RecordedStepRewardModel(path=path, live=RandomStepRewardModel())


def test_one_file_holds_texts_and_scores(path):
    engine = RecordedEngine(path=path, live=ScriptedEngine("a"))
    ask(RecordedStepRewardModel(path=path, live=live_model()))
    assert RecordedEngine(path=path).record.source == engine.record.source
    assert ask(make_reward_model({"name": "recorded", "path": path})) == ask(live_model())


def test_options():
    with pytest.raises(ReasonEnvsError, match=r"^path='' must be the path of a record"):
        make_reward_model("recorded")
