"""Thirty typical mistakes: each message names the value, the rule and the fix, before anything is loaded."""

import gymnasium as gym
import pytest

from agents.config.compose import compose_config
from agents.training.resolve import resolve
from reason_envs import make_environment
from reason_envs.rewards import make_reward
from reason_envs.tasks import make


def run(*overrides):
    return lambda: resolve(compose_config(overrides))


def task(**fields):
    return lambda: make_environment("single_turn_math", tasks=[fields])


MISTAKES = {
    "unknown environment": (run("env=single_turn_maths"), "'single_turn_maths'", "Did you mean 'single_turn_math'"),
    "unknown algorithm": (run("algo=gpro"), "'gpro'", "Did you mean 'grpo'"),
    "unknown experiment": (run("+experiment=grpo_maths"), "'grpo_maths'", "Did you mean 'grpo_math"),
    "experiment without plus": (run("experiment=grpo_math_lora"), "experiment=", "+experiment=NAME"),
    "learning rate of others": (run("algo.lr=1e-5"), "'algo.lr'", "'algo.optimizer.learning_rate'"),
    "rank of others": (run("policy.lora_r=8"), "'policy.lora_r'", "'policy.lora_rank'"),
    "steps of others": (run("max_steps=5"), "'max_steps'", "'steps'"),
    "misspelled key": (run("polcy.max_tokens=5"), "'polcy'", "Did you mean 'policy'"),
    "key of another algorithm": (run("algo.gamma=0.9"), "'algo.gamma'", "algo=ppo"),
    "text for a number": (run("steps=ten"), "'ten'", "steps"),
    "fraction for a number": (run("steps=1.5"), "'1.5'", "Integer"),
    "negative number": (run("policy.max_tokens=-1"), "max_tokens=-1", "must be at least"),
    "zero temperature": (run("policy.temperature=0"), "temperature=0", "above 0"),
    "no end": (run("steps=null"), "steps=None", "give at least one of them"),
    "no equals sign": (run("steps"), "'steps'", "write key=value"),
    "spaces of the shell": (run("env.tasks={name:"), "'env.tasks={name:'", "quote the whole argument once"),
    "unknown tasks": (lambda: make("gsm8"), "'gsm8'", "Did you mean 'gsm8k'"),
    "missing file": (lambda: make({"name": "json", "path": "no.jsonl"}), "no.jsonl", "does not exist in"),
    "file as a name": (lambda: make(__file__), "is a file, not a task family", "write {'name': 'json', 'path'"),
    "unknown format": (lambda: make({"name": "json", "path": "a.xlsx"}), "a.xlsx", "must end in .jsonl"),
    "no answer": (task(question="1 + 1?"), "record 1", "answer"),
    "unknown reward": (lambda: make_reward("maths"), "'maths'", "Did you mean 'math'"),
    "reward without module": (run("env.reward=no_module:f"), "'no_module:f'", "add its folder to PYTHONPATH"),
    "reward with one parameter": (run("env.reward=os:getcwd"), "'os:getcwd'", "def brief(response, task)"),
    "option of a reward": (run("env.reward={name: math, corect: 2}"), "corect=2", "Did you mean 'correct'"),
    "weight": (run("env.reward=[{name: math, weight: high}]"), "0.weight='high'", "must be a finite number"),
    "option of make": (lambda: gym.make("SingleTurnMath-v0", task="gsm8k"), "task='gsm8k'", "Did you mean 'tasks'"),
    "render mode": (lambda: gym.make("SingleTurnMath-v0", render_mode="text"), "render_mode='text'", "Valid: ansi"),
    "reset options": (lambda: gym.make("SingleTurnMath-v0").reset(options={"tsk": 1}), "'tsk'", "Did you mean 'task'"),
    "step before reset": (
        lambda: gym.make("SingleTurnMath-v0").step("1"),
        "No episode has started",
        "call reset first",
    ),
    "missing text file": (run("env.system_prompt=@no.txt"), "'@no.txt'", "give the path of a text file after @"),
    "device": (run("policy.device=gpu", "placement.policy=cpu"), "placement.policy='cpu'", "give one of them"),
}


def test_there_are_at_least_thirty_mistakes():
    assert len(MISTAKES) >= 30


@pytest.mark.parametrize("mistake", MISTAKES)
def test_message_names_value_rule_and_fix(mistake):
    make_it, value, fix = MISTAKES[mistake]
    with pytest.raises(ValueError, match=r"\w") as caught:
        make_it()
    message = str(caught.value)
    assert value in message
    assert fix in message
    assert "\n" not in message.strip()
