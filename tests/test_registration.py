"""Short names and ids of environments, and their registration with Gymnasium."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import pytest
from toys import Toy, ToyConfig

import reason_envs
from reason_envs import registration
from reason_envs.errors import ReasonEnvsError


@pytest.fixture(autouse=True)
def _own_entries(monkeypatch):
    monkeypatch.setattr(registration.ENVIRONMENTS, "parts", dict(registration.ENVIRONMENTS.parts))


def run_python(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "code",
    [
        "import reason_envs, gymnasium; print('SingleTurnMath-v0' in gymnasium.registry)",
        "import gymnasium, reason_envs; print('SingleTurnMath-v0' in gymnasium.registry)",
        "import gymnasium as g; g.register_envs(__import__('reason_envs')); print('SingleTurnMath-v0' in g.registry)",
    ],
)
def test_ids_are_registered_in_any_order_of_imports_without_warnings(code):
    done = run_python(code)
    assert (done.stdout.strip(), done.stderr) == ("True", "")


def test_gymnasium_finds_ids_by_their_package():
    done = run_python("import gymnasium as g; print(g.make('reason_envs:SingleTurnMath-v0').spec.id)")
    assert (done.stdout.strip(), done.stderr) == ("SingleTurnMath-v0", "")


def test_register_all_can_be_repeated():
    before = dict(gym.registry)
    registration.register_all()
    assert gym.registry == before


def test_register_adds_an_environment_everywhere():
    reason_envs.register("demo/OwnPuzzle-v3", Toy, ToyConfig)
    assert reason_envs.make_environment("own_puzzle", turns=7).config.turns == 7
    assert reason_envs.make_environment("demo/OwnPuzzle-v3", render_mode="ansi").render_mode == "ansi"
    assert gym.make("demo/OwnPuzzle-v3").unwrapped.environment.config.turns == 3
    assert reason_envs.env_config("own_puzzle") is ToyConfig
    with pytest.raises(ReasonEnvsError, match="registered already"):
        reason_envs.register("demo/OwnPuzzle-v3", "toys:Another", ToyConfig)
    with pytest.raises(ReasonEnvsError, match="registered already"):
        reason_envs.register("Other-v0", "toys:Another", ToyConfig, name="own_puzzle")
    assert "Other-v0" not in gym.registry


def test_register_accepts_import_paths():
    reason_envs.register("Addressed-v0", "toys:Toy", "toys:ToyConfig")
    assert type(reason_envs.make_environment("addressed")) is Toy
    with pytest.raises(ReasonEnvsError, match=r"package\.module:Class"):
        reason_envs.register("Misaddressed-v0", "toys.Toy", "toys:ToyConfig")


def test_unknown_names_raise_an_error_with_near_names():
    with pytest.raises(ReasonEnvsError, match="Did you mean 'single_turn_math'"):
        reason_envs.make_environment("single_turn_maths")
    with pytest.raises(ReasonEnvsError, match="Did you mean 'SingleTurnMath-v0'"):
        registration.ENVIRONMENTS["SingleTurnMath-v1"]


def test_entries_recommend_options_of_a_run():
    assert registration.ENVIRONMENTS["ReasonTree-v0"].recommends == {"algo": "ppo", "policy": "graph"}
    assert registration.ENVIRONMENTS["planner_solver"].recommends["model"] == "embedded:planner_solver"
    assert registration.ENVIRONMENTS["single_turn_math"].recommends == {}
    reason_envs.register("Own-v0", Toy, ToyConfig, recommends={"learning_rate": 1e-4})
    assert registration.ENVIRONMENTS["own"].recommends == {"learning_rate": 1e-4}
    with pytest.raises(ReasonEnvsError, match=r"Unknown recommendation of Other-v0 'algorithm'\. Did you mean 'algo'"):
        reason_envs.register("Other-v0", Toy, ToyConfig, recommends={"algorithm": "ppo"})
