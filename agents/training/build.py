"""Build the parts of a run from its plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents import distributed
from agents.algorithms.config import OptimizerConfig
from agents.algorithms.suited_rate import suited_rate
from agents.config.cluster import ClusterConfig
from agents.config.compose import compose_config
from agents.config.schema import TrainConfig, options
from agents.evaluation.evaluate_policy import check_reports
from agents.policies.base import TrainablePolicy
from agents.policies.roles import RolePolicy, language_parts
from agents.policies.served import ServedPolicy
from agents.registry import POLICIES
from agents.training import checkpoint
from agents.training.engines import connect_parts, policy_engines
from agents.training.folder import CHECKPOINTS, read_config
from agents.training.phases import explain_out_of_memory
from agents.training.resolve import RunPlan, resolve
from agents.training.reward_model_phase import check_trained
from agents.training.weight_sync import PolicySync
from reason_envs.adapters.loop import run_apart
from reason_envs.core import AgentId, Environment
from reason_envs.errors import RunError
from reason_envs.llm import make_engine, placed
from reason_envs.llm.adapter_views import AdapterView
from reason_envs.llm.engine import BASE_MODEL, Engine
from reason_envs.registration import make_environment
from reason_envs.reward_models.base import StepRewardModel, make_reward_model
from reason_envs.sandbox import Sandbox
from reason_envs.tasks import make as make_tasks
from reason_envs.tasks.base import TaskSet
from reason_envs.validation import mounted, require

if TYPE_CHECKING:
    from agents.training.cluster import Cluster


@dataclass(frozen=True)
class Run:
    """Everything that acts in a run, before any learning."""

    plan: RunPlan
    """Plan that the parts were built from."""
    environment: Environment
    """Prototype environment; each episode plays on a fork of it."""
    policy: TrainablePolicy
    """Policy that is trained."""
    engines: tuple[Engine, ...]
    """Engines that sample for the policy, and the environment's generator."""
    reward_model: StepRewardModel | None
    """Step reward model of the environment; ``None`` if it has none."""
    train_tasks: TaskSet
    """Problems to train on."""
    test_tasks: TaskSet | None
    """Held-out problems; ``None`` if nothing evaluates, or if all problems of the source are trained on."""
    cluster: Cluster | None = None
    """Cluster with the engines; ``None`` if they are in this process."""

    def held_out(self) -> TaskSet:
        """Return the held-out problems.

        Raises:
            RunError: there are none.
        """
        if self.test_tasks is None:
            raise RunError(
                f"The run trains on all problems of {self.train_tasks.name}, so none is held out: set eval_set to "
                "other problems, such as 'eval_set={name: json, path: FILE}'."
            )
        return self.test_tasks

    @property
    def reread_tokens(self) -> int:
        """Number of tokens that the models have read again, because kept prefixes were freed."""
        return sum(part.reread_tokens for part in (*self.engines, self.reward_model) if part is not None)

    def close(self) -> None:
        """Free the models."""
        self.environment.close()
        for part in (*self.engines, self.reward_model):
            if part is not None:
                part.close()
        if self.cluster is not None:
            self.cluster.close()


def connect(config: ClusterConfig) -> Cluster | None:
    """Connect to the address of ``cluster``. ``None`` if it has none.

    Raises:
        ReasonEnvsError: Ray is not installed, or does not answer at the address.
    """
    if config.address is None:
        return None
    require(f"cluster.address={config.address}", "cluster")
    from agents.training.cluster import Cluster

    return Cluster(config)


def build(plan: RunPlan, cluster: Cluster | None = None) -> Run:
    """Build environment, policy, engines and tasks. Nothing is trained.

    ``cluster`` is the connection to ``cluster.address``. ``None``: it is made, if there is an address.

    Raises:
        ReasonEnvsError: a part cannot be built, or memory runs out.
    """
    cluster = cluster or connect(plan.config.cluster)
    try:
        with explain_out_of_memory("loading the model", plan.config):
            return _build(plan, cluster)
    except BaseException:
        if cluster is not None:
            cluster.close()
        raise


def _build(plan: RunPlan, cluster: Cluster | None) -> Run:
    config, make = plan.config, make_engine if cluster is None else cluster.engine
    with mounted("env.tasks"):
        train_tasks = make_tasks(config.env.tasks, config.env.split)
    with mounted("env.tasks" if config.eval_set is None else "eval_set"):
        test_tasks = None if plan.held_out is None else make_tasks(plan.held_out, "test")
    if test_tasks is not None and config.eval_set is None and not test_tasks.disjoint:
        test_tasks = None  # they are trained on
    check_trained(plan.reward_model_training)
    models: dict[str, Any] = {} if plan.reward_model is None else {"reward_model": make_reward_model(plan.reward_model)}
    frozen = None if plan.frozen_engine is None else make(plan.frozen_engine)
    if frozen is not None and "engine" in options(config.env):
        models["engine"] = frozen
    elif cluster is not None:
        models |= _frozen_engines(plan, make)
    engines: dict[AgentId, Any] = {}
    if plan.base_model_options:  # the environment needs the policy's engine
        engines = policy_engines(plan, [""], make)
        models |= {name: AdapterView(engines[""], BASE_MODEL) for name in plan.base_model_options}
    with mounted("env"), nullcontext() if cluster is None else cluster.sandboxes():
        environment = make_environment(config.env.name, **{**options(config.env), **models, "tasks": train_tasks})
    environment.max_decisions = config.max_decisions
    run_apart(environment.check_servers())
    run_apart(check_reports(environment, test_tasks))
    if "ansi" in environment.metadata["render_modes"]:
        environment.render_mode = "ansi"
    if plan.writes_text:
        roles = [""] if config.policy.sharing == "shared" else list(environment.agents)
        engines = engines or policy_engines(plan, roles, make)
    policy = _policy(plan, environment)
    if isinstance(policy, ServedPolicy):
        policy.engine = frozen
    used = [*engines.values(), *([] if frozen is None else [frozen])]
    for engine in used:
        run_apart(engine.check_server())
    connect_parts(policy, engines, may_share=not config.pipeline.steps_ahead)
    if config.init_from:
        policy.load_state_tensors(checkpoint.load(Path(config.init_from))[0]["policy"])
    return Run(
        plan=replace(plan, config=with_learning_rate(config, policy)),
        environment=environment,
        policy=policy,
        engines=tuple(used),
        reward_model=models.get("reward_model"),
        train_tasks=train_tasks,
        test_tasks=test_tasks,
        cluster=cluster,
    )


def _frozen_engines(plan: RunPlan, make: Callable[[Any], Engine]) -> dict[str, Engine]:
    """Build the engines of an environment whose policy writes text, by option."""
    env = options(plan.config.env)
    names = env.keys() & {"engine", "solver"} - {*plan.base_model_options}
    return {name: make(placed(env[name], env.get("device"))) for name in sorted(names)}


def _policy(plan: RunPlan, environment: Environment) -> Any:
    """Build the policy, or one for each role."""
    name, chosen, seed = plan.config.policy.name, options(plan.config.policy), plan.config.seed
    if not plan.writes_text:
        return POLICIES.make(name, seed=seed, environment=environment, **chosen)
    sharding: dict[str, Any] = {}
    if distributed.size() > 1 and plan.config.cluster.learner.shard != "none":
        sharding["sharding"] = plan.config.cluster.learner
    if chosen["sharing"] == "shared":
        return POLICIES.make(name, seed=seed, **chosen, **sharding)
    config = POLICIES.configure(name, chosen)
    return RolePolicy(config, environment.agents, seed=seed, devices=plan.config.placement.roles or {}, **sharding)


def with_learning_rate(config: TrainConfig, policy: Any) -> TrainConfig:
    """Return the configuration with a number in place of ``algo.optimizer.learning_rate=null``."""
    optimizer = options(config.algo).get("optimizer")
    part = next(iter(language_parts(policy).values()), None)
    if part is None or not isinstance(optimizer, OptimizerConfig) or optimizer.learning_rate is not None:
        return config
    rate = suited_rate(sum(p.numel() for p in part.model.parameters()), lora=config.policy.uses_lora)
    return replace(config, algo=replace(config.algo, optimizer=replace(optimizer, learning_rate=rate)))


def load_run(
    run: str | None, checkpoint_folder: str | None = None, *, untrained: bool = False, overrides: Sequence[str] = ()
) -> Run:
    """Build the parts of a run with its trained weights, ready to act; or the parts that options describe, untrained.

    Args:
        run: run folder, whose latest checkpoint is loaded.
        checkpoint_folder: ``<run>/checkpoints/step_N`` instead. Without both, ``overrides`` describe a run. It trains
            nothing, so its problems are held out.
        untrained: keep the weights that the run started from.
        overrides: ``key=value`` changes of the run's configuration, such as ``reward_model.path=FOLDER``.

    Raises:
        RunError: both folders or nothing is given, or a folder does not hold what it should.
    """
    if run is None and checkpoint_folder is None and overrides:
        config = compose_config(overrides)
        tasks = config.eval_set or config.env.tasks
        env = replace(config.env, tasks=tasks, split="test")
        return build(resolve(replace(config, env=env, eval_set=tasks, eval_every=config.eval_every or 1)))
    if (run is None) == (checkpoint_folder is None):
        raise RunError(
            "Give either run=<run folder> or checkpoint=<run folder>/checkpoints/step_N, or without both the options "
            "of a run, such as policy.model=MODEL."
        )
    folder = Path(run) if run else Path(str(checkpoint_folder)).resolve().parent.parent
    config = read_config(folder, overrides)
    config = replace(config, output_dir=str(folder), eval_every=config.eval_every or 1)
    if not untrained:
        config = replace(config, init_from=checkpoint_folder or str(checkpoint.latest(folder / CHECKPOINTS)))
    loaded = build(resolve(config))
    PolicySync(loaded.policy).send(version=0)
    return loaded


def announcement(run: Run, total_steps: int) -> str:
    """Describe a run in one line: algorithm, parameters, problems, steps and folder."""
    config = run.plan.config
    parameters = sum(p.numel() for p in run.policy.parameters())
    policy = f"model {config.policy.model!r}" if run.plan.writes_text else f"a {config.policy.name} policy"
    processes = f" in {distributed.size()} processes" if distributed.size() > 1 else ""
    sandboxes = [part.summary for part in run.environment.owned if isinstance(part, Sandbox)]
    return (
        f"{config.algo.name} trains {parameters:,} parameters of {policy} on "
        f"{_problems(run.train_tasks)}, {total_steps:,} steps{processes}; held out: {_held_out(run)}. "
        f"Everything goes to {run.plan.folder}" + "".join(f". Programs run in {each}" for each in sandboxes)
    )


def _problems(tasks: TaskSet) -> str:
    """Return the number of problems, and how many were left out for which reason."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in tasks.left_out.items() if count)
    return f"{len(tasks):,} problems of {tasks.name}" + (f" (left out: {reasons})" if reasons else "")


def _held_out(run: Run) -> str:
    """Return the held-out problems, or the reason why there are none."""
    if run.test_tasks is not None:
        return _problems(run.test_tasks)
    if not run.plan.config.eval_every:
        return "none, because eval_every=0"
    return "none, because all problems are trained on (set env.tasks.holdout=0.1 to hold out a tenth, or set eval_set)"
