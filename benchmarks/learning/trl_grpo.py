"""``GRPOTrainer`` of TRL on our environments: one response per episode with a reward function, several with a rollout.

    pip install 'reason-envs[trl]'
    python benchmarks/learning/trl_grpo.py single_turn_math --steps 60
    python benchmarks/learning/trl_grpo.py planner_solver --model embedded:planner_solver --learning-rate 6e-4
    python benchmarks/learning/trl_grpo.py petting_plan_path --option roles=single --option max_turns=2

It trains the embedded model on a CPU, prints the logs of TRL, and saves the model in ``--output``.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import yaml
from trl import GRPOConfig, GRPOTrainer

from reason_envs import make_environment
from reason_envs.adapters.trl import episode_reward, prompt_dataset, reward_function, rollout_function
from reason_envs.core import Environment
from reason_envs.llm.loading import load_model, load_tokenizer


def train(environment: Environment, model: str, output: str, **options: Any) -> GRPOTrainer:
    """Build a trainer for an environment and train.

    Args:
        environment: any environment; several turns use a rollout function.
        model: ``embedded``, ``embedded:NAME``, a folder, or a name on the hub.
        output: folder for the model.
        options: fields of ``GRPOConfig``.
    """
    settings = {"per_device_train_batch_size": 64, "num_generations": 8, "lr_scheduler_type": "constant", "beta": 0.0}
    settings |= {"bf16": False, "gradient_checkpointing": False, "use_cpu": not torch.cuda.is_available()}
    settings |= {"logging_steps": 1, "save_strategy": "no", "report_to": "none"}
    config = GRPOConfig(output_dir=output, **{**settings, **options})
    prompts = config.max_steps * config.per_device_train_batch_size // config.num_generations
    if environment.decisions_per_episode == 1:
        parts: dict[str, Any] = {"reward_funcs": reward_function(environment)}
    else:
        parts = {"reward_funcs": episode_reward, "rollout_func": rollout_function(environment)}
    trainer = GRPOTrainer(
        model=load_model(model, device=torch.device("cpu"), dtype=torch.float32),
        processing_class=load_tokenizer(model),
        args=config,
        train_dataset=prompt_dataset(environment, count=prompts),
        **parts,
    )
    trainer.train()
    return trainer


def main() -> None:
    """Run the command line: train and save the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", help="id or short name of the environment, such as single_turn_math")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="option of the environment")
    parser.add_argument("--model", default="embedded", help="embedded, embedded:NAME, a folder, or a name on the hub")
    parser.add_argument("--steps", type=int, default=30, help="number of training steps")
    parser.add_argument("--learning-rate", type=float, default=5e-5, help="constant learning rate")
    parser.add_argument("--max-tokens", type=int, default=128, help="maximum tokens of all turns of a completion")
    parser.add_argument("--output", default="runs/trl_grpo", help="folder for the model")
    arguments = parser.parse_args()
    pairs = (option.partition("=") for option in arguments.option)
    environment = make_environment(arguments.environment, **{key: yaml.safe_load(value) for key, _, value in pairs})
    trainer = train(
        environment,
        arguments.model,
        arguments.output,
        max_steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        max_completion_length=arguments.max_tokens,
    )
    trainer.save_model(arguments.output)


if __name__ == "__main__":
    main()
