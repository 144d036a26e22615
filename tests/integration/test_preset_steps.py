"""Every preset trains for one step on a small model, with each engine that can sample for it.

vLLM starts anew for each preset, so its runs need `REASON_ENVS_LONG_TESTS=1`.
"""

import json
import os
from importlib.util import find_spec

import pytest

from agents.config.compose import CONF_DIR, compose_config
from agents.train import train

PRESETS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
ENGINES = {
    "transformers": [],
    "vllm": ["engine.memory_fraction=null", "engine.kv_cache_gib=0.1", "engine.max_model_len=null"],
}
SMALL = (
    *("steps=1", "epochs=null", "eval_every=0", "eval_set=null", "save_every=1", "wandb=false"),
    *("algo.tasks_per_step=2", "algo.samples_per_task=2", "algo.minibatch_size=null", "engine.device=cpu"),
    *("policy.device=cpu", "placement.generator=null", "placement.reward_model=null", "placement.policy=null"),
    *("cluster.address=null", "cluster.learner={gpus: 1, shard: none}", "cluster.engine.gpus=null"),
)
TEXT = ("policy.model=embedded", "policy.max_tokens=24", "policy.dtype=float32", "policy.precision=float32")
PLANNER = [
    *("env.tasks=chain_sum", "env.solver={name: transformers, model: embedded, device: cpu}"),
    *("env.solver_max_tokens=32", "policy.reference_device=cpu"),
]
OPTIONS = {
    "cluster_grpo_7b_8gpu": ["env.tasks=chain_sum"],
    "cluster_grpo_32b_6nodes": ["env.tasks=chain_sum"],
    "cluster_petting_math_8gpu": ["env.tasks=chain_sum"],
    "cluster_planner_solver_4gpu": PLANNER,
    "grpo_math_lora": ["env.tasks=chain_sum", "env.system_prompt=null"],
    "grpo_math_lora_test": ["env.tasks=chain_sum"],
    "petting_code": ["env.tasks=one_line_code"],
    "petting_math": ["env.tasks=chain_sum"],
    "pgts_2x24gb": [
        *("env.tasks=chain_sum", "env.system_prompt=null", "engine.model=embedded", "engine.dtype=float32"),
        *("env.max_step_tokens=16", "reward_model.train=false", "reward_model.device=cpu"),
        "reward_model.dtype=float32",
    ],
    "planner_solver_numinamath": PLANNER,
    "workflow_aflow": [
        *("env.tasks=workflow_problems", "env.executor_max_tokens=16", "env.aflow_config_path=null"),
        "env.aflow_executor_model=null",
    ],
}
"""Small problems and small models in place of those of a preset."""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("preset", PRESETS)
def test_preset_trains_for_one_step(preset, engine, tmp_path):
    if engine == "vllm" and not (find_spec("vllm") and os.environ.get("REASON_ENVS_LONG_TESTS")):
        pytest.skip("needs REASON_ENVS_LONG_TESTS=1 and vllm (extra [vllm])")
    text = [] if preset.startswith("pgts") else TEXT
    options = [*SMALL, *text, *OPTIONS.get(preset, []), "env.tasks.size=64", *ENGINES[engine]]
    config = compose_config([f"+experiment={preset}", f"engine={engine}", f"output_dir={tmp_path}/run", *options])
    train(config)
    (row,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert (row["step"], row["tokens"] > 0) == (1, True)
