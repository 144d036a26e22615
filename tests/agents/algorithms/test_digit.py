"""Each learner learns to say the requested digit, and none learns anything from random rewards."""

import pytest
from digit_toys import save_digit_model, trained_accuracy

from agents.algorithms.at_grpo import ATGRPO, ATGRPOConfig
from agents.algorithms.grpo import GRPO, GRPOConfig
from agents.algorithms.optimizer import OptimizerConfig
from agents.algorithms.ppo import PPO, PPOConfig

FAST = {"optimizer": OptimizerConfig(learning_rate=1e-2)}
GROUPS = {"tasks_per_step": 10, "samples_per_task": 8, **FAST}
WHOLE = {"tasks_per_step": 160, "minibatch_size": None, "epochs_per_batch": 2, **FAST}
LEARNERS = {
    "ppo": (PPO, PPOConfig(**WHOLE)),
    "ppo by turns": (PPO, PPOConfig(**WHOLE, gae_level="turn", value_learning_rate=1e-2)),
    "grpo": (GRPO, GRPOConfig(**GROUPS)),
    "at_grpo": (ATGRPO, ATGRPOConfig(**GROUPS)),
}
STEPS = 22


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_digit_model(tmp_path_factory.mktemp("digit_model"))


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_teach_the_digit(model, name):
    before, after = trained_accuracy(model, *LEARNERS[name], STEPS)
    assert before < 0.2
    assert after > 0.9


@pytest.mark.parametrize("name", ["ppo", "grpo", "at_grpo"])
def test_learners_learn_nothing_from_random_rewards(model, name):
    _, after = trained_accuracy(model, *LEARNERS[name], STEPS, random=True)
    assert after < 0.3
