"""The step reward model that returns recorded scores."""

import asyncio

import pytest
from scripted_engine import ScriptedEngine
from step_reward_toys import ScriptedStepRewardModel

from reason_envs.batching import gather
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engines.recorded.engine import RecordedEngine
from reason_envs.reward_models.base import (
    RandomStepRewardModel,
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


def test_recorded_model_replays_scores_and_tokens_of_the_live_model(path):
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
    assert replay.scored_tokens == sum(map(live.count_tokens, REQUESTS))


def test_recorded_model_returns_no_scores_without_steps(path):
    RecordedStepRewardModel(path=path, live=live_model())
    assert ask(RecordedStepRewardModel(path=path), [StepScoreRequest("1", ())]) == [[]]


def test_recorded_model_refuses_missing_scores(path):
    ask(RecordedStepRewardModel(path=path, live=live_model()), REQUESTS[:1])
    replay = RecordedStepRewardModel(path=path)
    for call in (lambda: ask(replay), lambda: replay.count_tokens(REQUESTS[-1])):
        with pytest.raises(ReasonEnvsError, match=r"has no scores for .*Set the option live"):
            call()


def test_recorded_model_refuses_to_continue_the_record_of_another_model(path):
    RecordedStepRewardModel(path=path, live=live_model())
    with pytest.raises(ReasonEnvsError, match=r"ScriptedStepRewardModel.*RandomStepRewardModel"):
        RecordedStepRewardModel(path=path, live=RandomStepRewardModel())


def test_recorded_model_shares_a_file_with_a_recorded_engine(path):
    engine = RecordedEngine(path=path, live=ScriptedEngine("a"))
    ask(RecordedStepRewardModel(path=path, live=live_model()))
    assert RecordedEngine(path=path).record.source == engine.record.source
    assert ask(make_reward_model({"name": "recorded", "path": path})) == ask(live_model())


def test_recorded_model_refuses_a_missing_path():
    with pytest.raises(ReasonEnvsError, match=r"^path='' must be the path of a record"):
        make_reward_model("recorded")
