"""The parts of a run, built from its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from agents.config.schema import TrainConfig, options
from agents.policies.base import TrainablePolicy
from agents.policies.language import LanguagePolicy
from agents.policies.roles import RolePolicy, language_parts
from agents.registry import POLICIES
from agents.training import checkpoint
from agents.training.engines import samplers
from agents.training.environment_models import check_shared, environment_models, place, shared_options
from agents.training.folder import CHECKPOINTS, read_config
from agents.training.weight_sync import WeightSync
from reason_envs.core import AgentId, Environment
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.adapter_views import AdapterView
from reason_envs.llm.engine import BASE_MODEL, Engine, TrainableEngine
from reason_envs.registration import make_environment
from reason_envs.reward_models.base import StepRewardModel
from reason_envs.tasks import make as make_tasks
from reason_envs.tasks.base import TaskSet


@dataclass
class Run:
    """Everything that acts in a run, before any learning."""

    config: TrainConfig
    environment: Environment
    policy: TrainablePolicy
    engines: tuple[Engine, ...]
    """What ``engine=`` names: a language policy's sampler, or each role's; else the environment's generator, if any."""
    reward_model: StepRewardModel | None
    """The environment's step reward model, where it has one."""
    train_tasks: TaskSet
    test_tasks: TaskSet | None
    """Held-out problems; ``None`` where nothing evaluates."""

    def close(self) -> None:
        """Free the models."""
        self.environment.close()
        for part in (*self.engines, self.reward_model):
            if part is not None:
                part.close()


def build(config: TrainConfig, folder: Path) -> Run:
    """Build environment, policy, engine and tasks; every error comes before any compute is spent.

    Args:
        config: the run's; what follows from other options is written into it.
        folder: where a step reward model that the run trains lies.
    """
    env_options = options(config.env)
    for name in ("tasks", "split"):
        if name not in env_options:
            raise ReasonEnvsError(
                f"env={config.env.name} has no option {name!r}, and a learner needs problems: give its configuration "
                "the fields tasks and split (python -m reason_envs.check says what else is missing)."
            )
    train_tasks = make_tasks(env_options["tasks"], env_options["split"])
    test_tasks = _held_out(config) if config.eval_every else None
    policy_class = POLICIES[config.policy.name].load()
    writes_text = issubclass(policy_class, LanguagePolicy)
    place(config, writes_text=writes_text)
    check_shared(config)
    parts = environment_models(config, folder, writes_text=writes_text)
    shared = shared_options(config)
    sampling = samplers(config, [""]) if shared else {}
    engines: tuple[Engine, ...] = (parts["engine"],) if "engine" in parts and not writes_text else ()
    frozen = {name: AdapterView(sampling[""], BASE_MODEL) for name in shared}
    environment = make_environment(config.env.name, **{**env_options, **parts, **frozen, "tasks": train_tasks})
    if "ansi" in environment.metadata["render_modes"]:
        environment.render_mode = "ansi"
    policy_config = POLICIES[config.policy.name].config_class()(**options(config.policy))
    if writes_text:
        names = [""] if config.policy.sharing == "shared" else list(environment.agents)
        sampling = sampling or samplers(config, names)
        policy = _language_policy(policy_class, policy_config, config, names)
        for name, part in language_parts(policy).items():
            part.engine = sampling[name]
        engines = tuple(sampling.values())
    else:
        policy = policy_class(policy_config, seed=config.seed, environment=environment)
    if config.init_from:
        policy.load_state_tensors(checkpoint.load(Path(config.init_from))[0]["policy"])
    return Run(config, environment, policy, engines, parts.get("reward_model"), train_tasks, test_tasks)


def _language_policy(
    policy_class: type[LanguagePolicy], policy_config: Any, config: TrainConfig, roles: Sequence[AgentId]
) -> LanguagePolicy | RolePolicy:
    """Build one policy for all roles, or a policy of each."""
    if policy_config.sharing == "shared":
        return policy_class(policy_config, seed=config.seed)
    return RolePolicy(policy_config, roles, seed=config.seed, devices=config.placement.roles or {})


def weight_syncs(policy: Any) -> dict[AgentId, WeightSync]:
    """Return what sends the weights of each part of a policy to its engine; nothing where the policy samples itself."""
    parts = language_parts(policy)
    return {name: WeightSync(part, cast(TrainableEngine, part.engine)) for name, part in parts.items()}


def load_run(
    run: str | None,
    checkpoint_folder: str | None = None,
    *,
    untrained: bool = False,
    overrides: Sequence[str] = (),
) -> Run:
    """Build a run's parts with its trained weights, ready to act.

    Args:
        run: run folder; its latest checkpoint is loaded.
        checkpoint_folder: ``<run>/checkpoints/step_N`` instead.
        untrained: keep the weights that the run started from.
        overrides: ``key=value`` changes of the run's configuration, such as ``reward_model.path=FOLDER``.
    """
    if (run is None) == (checkpoint_folder is None):
        raise ReasonEnvsError("Give either run=<run folder> or checkpoint=<run folder>/checkpoints/step_N.")
    folder = Path(run) if run else Path(str(checkpoint_folder)).resolve().parent.parent
    config = read_config(folder, overrides)
    config.eval_every = config.eval_every or 1
    if not untrained:
        config.init_from = checkpoint_folder or str(checkpoint.latest(folder / CHECKPOINTS))
    loaded = build(config, folder)
    for sync in weight_syncs(loaded.policy).values():
        sync.send(version=0)
    return loaded


def _held_out(config: TrainConfig) -> TaskSet:
    if config.eval_set is None and config.env.split == "test":
        raise ReasonEnvsError(
            "env.split=test trains on the problems that evaluation would call held out: set eval_set to others, or "
            "eval_every=0."
        )
    return make_tasks(config.eval_set or config.env.tasks, "test")
