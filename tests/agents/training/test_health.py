import re
from functools import partial

import pytest

from agents.config.compose import compose_config
from agents.training.health import PATIENCE, due_warnings

QUIET = {"accuracy": 0.5, "frac_no_answer": 0.1, "frac_zero_std": 0.5, "frac_truncated": 0.1, "kl": 0.01}


def given(health, **metrics):
    return health({**QUIET, **metrics})


def of_a_run(*options):
    return partial(due_warnings, config=compose_config(list(options)), counts={})


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"frac_no_answer": 0.95}, r"95% of the responses lack an answer.*env\.system_prompt"),
        ({"frac_zero_std": 1.0}, r"the gradient is zero.*algo\.samples_per_task"),
        ({"accuracy": 0.09}, r"10% of the answers.*earns -0\.80.*no answer earns -0\.5.*env\.reward\.wrong=0"),
        ({"frac_truncated": 0.75}, r"75% of the responses end at policy\.max_tokens=128"),
        ({"step_kl": 0.2}, r"step_kl is 0\.2 nats per token.*Lower algo\.optimizer\.learning_rate=5e-05"),
        ({"approx_kl": 0.3}, r"approx_kl is 0\.3 nats per token.*Lower algo\.optimizer\.learning_rate=5e-05"),
    ],
)
def test_warning_comes_once_after_three_steps_in_a_row(metrics, message):
    health = of_a_run()
    assert not any(given(health, **metrics) for _ in range(PATIENCE - 1))
    assert given(health) == []
    found = [given(health, **metrics) for _ in range(3 * PATIENCE)]
    (warning,) = found[PATIENCE - 1]
    assert not any(found[: PATIENCE - 1])
    assert not any(found[PATIENCE:])
    assert re.search(message, warning)


@pytest.mark.parametrize("options", [["env.reward.wrong=0", "env.reward.no_answer=0"], ["env.reward=brief:brief"]])
def test_rewards_for_guessing_and_own_rewards_give_no_warning(options):
    health = of_a_run(*options)
    assert not any(given(health, accuracy=0.0) for _ in range(3 * PATIENCE))


@pytest.mark.parametrize("options", [["env=reason_tree"], ["algo=sb3_ppo", "env=reason_tree"], ["env=workflow"]])
def test_every_kind_of_run_has_the_options_that_warnings_quote(options):
    health = of_a_run(*options)
    bad = {"frac_no_answer": 1.0, "frac_zero_std": 1.0, "frac_truncated": 1.0, "kl": 9.0, "accuracy": 0.0}
    assert [len(health(bad)) for _ in range(PATIENCE)][-1] >= 3
