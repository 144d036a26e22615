"""Failed imports explained: modules that have moved, and modules that another package named ``agents`` hides."""

from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
"""Folder that holds both packages of this library."""
MOVES = """
agents > agents.algorithms: learner grpo ppo at_grpo sb3 sb3_config optimizer update role_update=update_per_role
agents > agents.config: config=schema compose defaults=recommended command=command_line validation=command_line
agents > agents.evaluation: held_out=intervals
agents > agents.policies: batch=padding
agents > agents.reward_model: reward_model=train reward_model_card=card step_labels=labels step_metrics=metrics
agents > agents.reward_model: step_training=fine_tuning
agents > agents.rollout: rollout=episodes turn_tree
agents > agents.tracking: tracking=tracker console curves dashboards metrics_file transcript model_card hub
agents > agents.tracking: episodes=episode_records
agents > agents.training: trainer runs=build samplers=engines sync=weight_sync checkpoint state_tree saving
agents > agents.training: run_folder=folder interrupts prompt_limits phase_one=reward_model_phase
agents > agents.training: environment_models=resolve
agents.policies > agents.policies: network=actor_critic graph_network=gps_network token_states=hidden_states
agents.search > agents: command=frontier
agents.search > agents.search: frontier=plot
reason_envs > reason_envs: plugins=registry checker=check
reason_envs.envs > reason_envs.envs: problem=task_environment
reason_envs.envs.reason_tree > reason_envs.envs.reason_tree: text=render_text render_page=render_html growth=grower
reason_envs.envs.reason_tree > reason_envs.envs.reason_tree: draws=grower
reason_envs.envs.workflow > reason_envs.envs.workflow: calls=operators run=execution program=repair text=render_text
reason_envs.llm > reason_envs.envs: templates=prompt_templates
reason_envs.llm > reason_envs.llm: prefixes=prefix_cache adapters=lora_files named_adapter=adapter_views
reason_envs.llm > reason_envs.llm: base_model=adapter_views stopping=stop_strings
reason_envs.llm > reason_envs.llm.engines: scripted
reason_envs.llm > reason_envs.llm.engines.openai: openai_engine=engine openai_transport=transport
reason_envs.llm > reason_envs.llm.engines.openai: openai_answers=responses
reason_envs.llm > reason_envs.llm.engines.recorded: recorded=engine record_file
reason_envs.llm > reason_envs.llm.engines.transformers: transformers_engine=engine decoding kv_cache grouped_attention
reason_envs.llm > reason_envs.llm.engines.vllm: vllm_engine=engine vllm_options=options vllm_process=process
reason_envs.llm > reason_envs.llm.engines.vllm: vllm_worker=worker
reason_envs.rewards > reason_envs.reward_models: steps=base step_model=transformers step_reading=reader
reason_envs.rewards > reason_envs.reward_models: steps_recorded=recorded
reason_envs.rewards > reason_envs.rewards.code: code=grade code_tests=tests code_replay=replay
reason_envs.rewards > reason_envs.rewards.leak: leak=find expressions spelled_numbers
reason_envs.rewards > reason_envs.rewards.math: math_grade=grade math_worker=worker pool=worker_pool extract normalise
reason_envs.rewards > reason_envs.rewards.math: notation
reason_envs.tasks > reason_envs.tasks: listed=task_list
reason_envs.tasks > reason_envs.tasks.files: files=families formats records benchmarks hub named=named_benchmarks
reason_envs.tasks > reason_envs.tasks.games: plan_path=plan_path_tasks sokoban=sokoban_tasks sudoku=sudoku_tasks
reason_envs.tasks.games > reason_envs.tasks.games: plan_path=plan_path_rules sokoban=sokoban_rules sudoku=sudoku_rules
reason_envs.tasks > reason_envs.tasks.generated: generated=base procedural=reasoning_gym fact_qa one_line_code
reason_envs.tasks > reason_envs.tasks.generated: functions workflow_problems defaults
"""
"""Modules that have moved: old parent > new parent, then ``name``, or ``old=new`` if the name differs."""


@cache
def new_names() -> dict[str, str]:
    """Return the new name of each module that has moved."""
    moved = {}
    for line in MOVES.strip().splitlines():
        parents, _, names = line.partition(": ")
        old_parent, _, new_parent = parents.partition(" > ")
        for old, _, new in (name.partition("=") for name in names.split()):
            moved[f"{old_parent}.{old}"] = f"{new_parent}.{new or old}"
    return moved


class FailedImports(MetaPathFinder):
    """Explains failed imports of modules of this library. It is the last finder, so other imports never reach it."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return ``None`` for modules that never existed.

        Raises:
            ImportError: the module has a new name, a package does not contain a name of the module that it was before,
                or another package hides the module.
        """
        if not fullname.startswith(("agents.", "reason_envs.")):
            return None
        moved = new_names()
        if fullname in moved:
            raise ImportError(f"The module {fullname!r} is now {moved[fullname]!r}.", name=fullname)
        parent, _, name = fullname.rpartition(".")
        if parent in moved and name in vars(import_module(moved[parent])):
            raise ImportError(f"{name!r} of the module {parent!r} is now in {moved[parent]!r}.", name=fullname)
        file = ROOT.joinpath(*fullname.split("."))
        if file.is_dir() or file.with_suffix(".py").is_file():
            raise ImportError(
                f"Another package named {fullname.partition('.')[0]!r} in {list(path or ())} hides {fullname!r}. "
                "Uninstall it (openai-agents provides such a package), or use separate virtual environments.",
                name=fullname,
            )
        return None
