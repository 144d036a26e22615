"""The comparison of learning with TRL: both sides are paid the same rewards, and the page states the raw rows."""

import json
from pathlib import Path

import pytest

from agents.config.compose import compose_config
from agents.config.schema import options as config_options
from agents.training.resolve import resolve
from benchmarks.parity.trl_learning import EMBEDDED, SMOLLM2, options, shown, table
from reason_envs.rewards import MathReward

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("what", [EMBEDDED, SMOLLM2], ids=["embedded", "smollm2"])
def test_our_side_is_paid_the_rewards_of_the_other(what):
    given = [option for option in options(what) if not option.startswith("policy.model=")]
    config = resolve(compose_config(["env=single_turn_math", "algo=grpo", *given])).config
    reward = config_options(config.env)["reward"]
    assert (reward.correct, reward.wrong, reward.no_answer) == (MathReward.correct, what.wrong, what.no_answer)
    assert reward.fallbacks == what.fallbacks


def test_page_shows_the_table_of_the_rows():
    lines = (ROOT / "benchmarks/parity/trl_learning_smollm2.json").read_text("utf-8").splitlines()
    results = (ROOT / "benchmarks/RESULTS.md").read_text("utf-8")
    assert table([json.loads(line) for line in lines], shown(SMOLLM2)) in results
