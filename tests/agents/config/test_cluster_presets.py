"""The presets of clusters: the GPUs that they take, and the memory of each."""

import pytest

from agents.config.cluster import Machine
from agents.config.compose import CONF_DIR, compose_config
from agents.training.memory import peak, plan_memory
from agents.training.resolve import resolve
from benchmarks.memory.table import SHAPES, folder_of

PRESETS = {
    "cluster_planner_solver_4gpu": ("3B", 4, 2),
    "cluster_petting_math_8gpu": ("4B", 8, 2),
    "cluster_grpo_7b_8gpu": ("7B", 8, 1),
    "cluster_grpo_32b_6nodes": ("32B", 48, 1),
}
"""Size of the model, number of GPUs, and number of engines for each learner."""


def test_all_presets_of_clusters_are_here():
    assert {path.stem for path in (CONF_DIR / "experiment").glob("cluster_*.yaml")} == PRESETS.keys()


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_fits_its_gpus(preset, tmp_path, monkeypatch):
    monkeypatch.setitem(SHAPES, "4B", (2560, 9728, 36, 32, 8))
    model, gpus, engines = PRESETS[preset]
    model = f"policy.model={folder_of(model, str(tmp_path))}"
    config = resolve(compose_config([f"+experiment={preset}", model])).config
    learners, placed = config.cluster.learner.gpus, config.cluster.engine
    each = placed.gpus or config.engine.tensor_parallel_size
    assert learners + learners * engines * placed.replicas * each == gpus
    assert peak(plan_memory(config, Machine(learners, memory_gb=78)))[0] < 78  # of 80, some is taken
