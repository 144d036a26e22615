"""Sixty typical mistakes: each message names the value, the rule and the fix, before anything is loaded."""

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from agents import fit
from agents.config.compose import compose_config
from agents.training.checkpoint import load
from agents.training.folder import read_config
from agents.training.resolve import resolve
from reason_envs import make_environment
from reason_envs.llm import make_engine
from reason_envs.rewards import make_reward
from reason_envs.tasks import make


def run(*overrides):
    return lambda: resolve(compose_config(overrides))


def task(**fields):
    return lambda: make_environment("single_turn_math", tasks=[fields])


def math(**options):
    return lambda: gym.make("SingleTurnMath-v0", **options)


def vector(**options):
    return lambda: gym.make_vec("SingleTurnMath-v0", **options)


def after_reset(make=gym.make, action=None, options=None, **more):
    """Return a function that resets an environment with options and takes an action."""

    def go():
        env = make("SingleTurnMath-v0", **more)
        env.reset(seed=1, options=options)
        env.step(action)

    return go


def trl_reward(prompts, completions, answer, **columns):
    """A reward as TRL's trainers call it."""


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
    "file as a name": (lambda: make(__file__), "is not a task family", "write {name: json, path: "),
    "format as a family": (
        lambda: make({"name": "csv", "path": "a.csv"}),
        "'csv'",
        "write {name: json, path: FILE.csv}",
    ),
    "unknown format": (lambda: make({"name": "json", "path": "a.xlsx"}), "a.xlsx", "must end in .jsonl"),
    "no answer": (task(question="1 + 1?"), "record 1", "answer"),
    "unknown reward": (lambda: make_reward("maths"), "'maths'", "Did you mean 'math'"),
    "reward without module": (run("env.reward=no_module:f"), "'no_module:f'", "add its folder to PYTHONPATH"),
    "reward as a file": (run("env.reward=./mine.py:f"), "'./mine.py:f'", "without folders and .py"),
    "reward with the ending of a file": (run("env.reward=mine.py:f"), "'mine.py:f'", "without folders and .py"),
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
    "rate of others": (run("learning_rate=1e-5"), "'learning_rate'", "'algo.optimizer.learning_rate'"),
    "batch of others": (run("per_device_train_batch_size=4"), "'per_device_train", "'algo.tasks_per_step'"),
    "group of others": (run("num_generations=8"), "'num_generations'", "'algo.samples_per_task'"),
    "penalty of others": (run("algo.beta=0.04"), "'algo.beta'", "'algo.kl_coef'"),
    "data of others": (run("dataset=my.jsonl"), "'dataset'", "'env.tasks'"),
    "model of others": (run("model=models/mine"), "'model'", "'policy.model'"),
    "keys of verl": (run("trainer.total_epochs=3"), "'trainer.total_epochs'", "mean 'epochs'"),
    "rate of verl": (run("actor_rollout_ref.actor.optim.lr=1e-6"), "optim.lr'", "'algo.optimizer.learning_rate'"),
    "key inside a section": (run("cluster.processes=2"), "'cluster.processes'", "cluster.engine.replicas"),
    "short data type": (run("policy.dtype=bf16"), "policy.dtype='bf16'", "'bfloat16'"),
    "bits": (run("policy.precision=16"), "policy.precision='16'", "bfloat16"),
    "percent": (run("policy.top_p=95"), "top_p=95", "must lie in [0, 1]"),
    "text for a list": (run("policy.lora_target_modules=q_proj"), "lora_target_modules", "a list, such as '[a, b]'"),
    "group of one": (run("algo.samples_per_task=1"), "samples_per_task=1", "must be at least 2"),
    "adapters without a rank": (run("policy.sharing=lora_per_role"), "lora_rank=0", "set lora_rank or adapter"),
    "other scale without an adapter": (run("policy.lora_alpha=64"), "lora_alpha=64", "needs lora_rank > 0"),
    "dropout without an adapter": (run("policy.lora_dropout=0.1"), "lora_dropout=0.1", "needs lora_rank > 0"),
    "no such engine": (run("engine=hf"), "'hf'", "Valid: openai, recorded, transformers, vllm"),
    "schedule of others": (run("algo.optimizer.schedule=cosine_with_warmup"), "'cosine_with", "mean 'cosine'"),
    "estimator of others": (run("algo.kl_kind=low_var_kl"), "'low_var_kl'", "Valid: k1, k2, k3"),
    "commas of the shell": (run("env.tasks=name:json", "env.tasks=path:a.jsonl"), "'env.tasks=path:a.jsonl'", "once"),
    "colon": (run("steps:10"), "'steps:10'", "write key=value"),
    "two values": (run("steps=10,20"), "'10,20'", "Integer"),
    "yes": (run("wandb=ja"), "'ja'", "bool"),
    "missing file as a name": (lambda: make("my.jsonl"), "'my.jsonl'", "for a file write {name: json, path: my.jsonl}"),
    "file of a generator": (lambda: make({"name": "gcd", "path": "a.jsonl"}), "path='a.jsonl'", "such as json"),
    "share in percent": (lambda: make({"name": "json", "path": "a.json", "holdout": "20%"}), "'20%'", "type float"),
    "columns of others": (task(prompt="1 + 1?", completion="2"), "'prompt', 'completion'", "Set question_field"),
    "pairs": (math(tasks=[("1 + 1?", "2")]), "('1 + 1?', '2')", "a mapping with a question and an answer"),
    "questions alone": (lambda: fit(tasks=["1 + 1?"], output_dir="unused"), "1 + 1?", "mappings with a question"),
    "split of others": (math(split="validation"), "'validation'", "Valid: test, train"),
    "reward of TRL": (lambda: make_reward(trl_reward), "answer must be given", "called with a response and a task"),
    "no function": (run("env.reward=math:pi"), "'math:pi'", "give the function itself"),
    "option of a team": (math(max_turns=3), "max_turns=3", "Valid: examples, max_response_chars"),
    "model for an engine": (lambda: gym.make("PlannerSolver-v0", solver="gpt-4o"), "'gpt-4o'", "Valid: openai"),
    "address": (lambda: make_engine("openai", model="m", base_url="host:80"), "'host:80'", "such as http://"),
    "strict as a text": (math(strict="yes"), "strict='yes'", "must be True or False"),
    "render mode as a number": (math(render_mode=3), "render_mode='3'", "Valid: ansi"),
    "strict": (after_reset(action=3, strict=True), "The action 3 (int)", "without strict=True"),
    "text for a number of environments": (vector(num_envs="4"), "num_envs='4'", "a whole number"),
    "fraction of an environment": (vector(num_envs=2.5), "num_envs=2.5", "a whole number"),
    "mode as a number": (vector(num_envs=2, autoreset_mode=1), "autoreset_mode=1", "Valid: NextStep, SameStep"),
    "environment for fit": (
        lambda: fit(env=object(), output_dir="unused"),
        "env=<object",
        "must be a name, or a mapping",
    ),
    "class of an algorithm": (lambda: fit(algo=dict, output_dir="unused"), "algo=<class 'dict'>", "must be a name"),
    "one action for two": (after_reset(gym.make_vec, ("4",), num_envs=2), "1 actions for 2", "one action per"),
    "text for a task": (after_reset(options={"task": "1 + 1?"}), "'1 + 1?'", "a mapping with question and answer"),
    "folder to resume": (lambda: read_config(Path("runs")), "runs", "config.yaml is missing. Check the path"),
    "run as a checkpoint": (lambda: load(Path("runs")), "runs", "Give a folder .../checkpoints/step_N"),
}


def test_there_are_at_least_sixty_mistakes():
    assert len(MISTAKES) >= 60


@pytest.mark.parametrize("mistake", MISTAKES)
def test_message_names_value_rule_and_fix(mistake):
    make_it, value, fix = MISTAKES[mistake]
    with pytest.raises(ValueError, match=r"\w") as caught:
        make_it()
    message = str(caught.value)
    assert value in message
    assert fix in message
    assert "\n" not in message.strip()


def test_the_command_prints_one_line_without_loading_torch():
    wrong = ["algo.lr=1", "env.tasks={name:", "steps:10", "seed=abc", "cluster.x=2", "env=no", "--lr=1"]
    lines = (
        "import sys; from agents.train import _run",
        f"for argument in {wrong}:",
        "    try: _run([argument])",
        "    except SystemExit as end: print(end.code, 'torch' in sys.modules)",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2 False"] * len(wrong)
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["error"] * len(wrong)
