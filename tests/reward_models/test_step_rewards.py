import asyncio

import pytest
from step_reward_toys import ScriptedStepRewardModel

from reason_envs.batching import gather
from reason_envs.errors import ReasonEnvsError
from reason_envs.reward_models import StepRewardModel, StepScoreRequest, make_reward_model
from reason_envs.reward_models.base import RandomStepRewardModel

REQUEST = StepScoreRequest("1 + 2 + 3 =", ("1 + 2 = 3", "3 + 3 = 6", "\\boxed{6}"))


def scores(model, *requests):
    async def ask():
        return await gather(*(model.score(request) for request in requests))

    return [answer.scores for answer in asyncio.run(ask())]


def test_random_model_scores_depend_on_prefix_and_seed():
    model = make_reward_model("random")
    whole, prefix = scores(model, REQUEST, StepScoreRequest(REQUEST.question, REQUEST.steps[:2]))
    assert whole[:2] == prefix
    assert len(set(whole)) == 3
    assert scores(make_reward_model("random"), REQUEST) == [whole]
    assert scores(make_reward_model("random", seed=1), REQUEST) != [whole]
    assert scores(model, StepScoreRequest("another question", REQUEST.steps)) != [whole]


def test_random_model_scores_are_uniform():
    model = RandomStepRewardModel()
    drawn = [s for i in range(200) for s in scores(model, StepScoreRequest(str(i), ("a", "b")))[0]]
    assert 0 <= min(drawn) < 0.05
    assert 0.95 < max(drawn) < 1
    assert sum(drawn) / len(drawn) == pytest.approx(0.5, abs=0.05)


def test_scripted_model_scores_waiting_requests_with_one_call():
    model = ScriptedStepRewardModel(lambda question, steps: [0.5] * len(steps))
    assert isinstance(model, StepRewardModel)
    assert scores(model, REQUEST, REQUEST, StepScoreRequest("?", ())) == [[0.5] * 3, [0.5] * 3, []]
    assert model.batcher.calls == 1
    assert model.scored_tokens == model.count_tokens(REQUEST) + 1  # equal requests are read once


@pytest.mark.parametrize("answer", [[0.5], [0.1, 0.2, 1.5], [float("nan")] * 3])
def test_scripted_model_refuses_invalid_scores(answer):
    model = ScriptedStepRewardModel(lambda question, steps: answer)
    with pytest.raises(ReasonEnvsError, match=r"one number in \[0, 1\]"):
        asyncio.run(model.score(REQUEST))


def test_make_reward_model_takes_a_name_a_mapping_or_a_model():
    model = RandomStepRewardModel(seed=3)
    assert make_reward_model(model) is model
    assert scores(make_reward_model({"name": "random", "seed": 3}), REQUEST) == scores(model, REQUEST)
    with pytest.raises(ReasonEnvsError, match=r"Unknown reward model 'rnadom'.*Did you mean 'random'"):
        make_reward_model("rnadom")
    with pytest.raises(ReasonEnvsError, match="sed=3 is not an option of reward model 'random'"):
        make_reward_model("random", sed=3)
