"""The typed configuration of a run, which is validated before anything is computed."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from agents.config.cluster import ClusterConfig
from agents.config.command_line import escaped
from agents.config.renamed import renamed_key
from agents.registry import ALGORITHMS, POLICIES
from reason_envs import registration
from reason_envs.errors import OWN_PART, OptionError, ReasonEnvsError, unknown_name
from reason_envs.llm import ENGINES
from reason_envs.registry import load_attribute
from reason_envs.reward_models.base import REWARD_MODELS
from reason_envs.validation import Checked, default_of, limited, mounted


@dataclass
class Placement:
    """Devices of a run's parts, in one place. Null keeps the ``device`` option of the part."""

    generator: str | None = None
    """Device of the generator (sets ``engine.device``) if the policy writes no text; null: the engine's own device."""
    reward_model: str | None = None
    """Device of the step reward model and its training (sets ``reward_model.device``); null: its own device."""
    policy: str | None = None
    """Device of the policy that is trained (sets ``policy.device``); null: the policy's own device."""
    roles: Any = None
    """Devices of the roles' models and engines with ``policy.sharing=model_per_role``: a mapping such as
    ``{coder: cuda:0, tester: cuda:1}``; null: ``policy.device``, which roles that are not named use too."""


@dataclass
class PipelineConfig(Checked):
    """How much of the training steps runs at the same time."""

    steps_ahead: int = limited(0, within=(0, 1))
    """Number of training steps, 0 or 1, that sampling is ahead of learning. 1: the episodes of a step are played during
    the update of the step before, with the weights before that update; ``algo.correction`` weighs the difference."""


@dataclass
class TrainConfig(Checked):
    """Options of ``python -m agents.train``."""

    seed: int = 0
    """Seed of all random draws of the run."""
    output_dir: str = "runs/${now:%Y%m%d-%H%M%S}"
    """Folder for all files of the run. A folder that holds a run already is refused: resume that run instead."""
    resume: str | None = None
    """Folder of a run to continue exactly, except for ``steps``, ``epochs`` and ``max_minutes``; null: a new run."""
    init_from: str | None = None
    """Checkpoint folder (``checkpoints/step_N``) whose weights a new run starts from; null: initial weights."""
    steps: int | None = 60
    """Maximum number of training steps; null: only ``epochs`` ends the run. One step collects a batch of episodes and
    updates the policy."""
    epochs: float | None = None
    """Maximum number of passes over the training tasks; null: only ``steps`` ends the run. If both are given, the
    smaller one ends it."""
    max_decisions: int = limited(1000, at_least=1)
    """Maximum number of decisions per episode, over all agents; a longer episode is truncated, with a warning."""
    max_minutes: float | None = limited(None, at_least=0)
    """Minutes of training after which the run saves and stops; null: no limit."""
    eval_set: Any = None
    """Problems of the evaluations, in the format of ``env.tasks``; null: the test split of ``env.tasks``."""
    eval_every: int = limited(25, at_least=0)
    """Training steps between two evaluations on held-out tasks; the run is also evaluated before and after training.
    0: no evaluation."""
    eval_tasks: int = limited(256, at_least=1)
    """Maximum number of held-out tasks per evaluation."""
    eval_samples: int = limited(1, at_least=1)
    """Episodes per held-out task, sampled at the training temperature."""
    eval_episodes: int = limited(64, at_least=0)
    """Maximum number of episodes per evaluation that are stored in ``validate/`` for ``python -m agents.report``."""
    save_every: int = limited(50, at_least=0)
    """Training steps between two checkpoints; 0: only the last step writes one. The last step always writes one."""
    keep_last: int = limited(2, at_least=1)
    """Number of latest checkpoints to keep, besides the one with the best held-out accuracy."""
    log_every: int = limited(1, at_least=1)
    """Training steps between two lines of ``summary.log`` and two points of the curves."""
    wandb: bool = False
    """Whether to log to Weights & Biases too (extra ``[wandb]``)."""
    wandb_project: str | None = None
    """Name of the project in Weights & Biases; null: ``reason-envs``."""
    wandb_run_name: str | None = None
    """Name of the run in Weights & Biases; null: the name of the run folder."""
    push_to_hub: str | None = None
    """Repository on the Hugging Face hub (``NAME`` or ``OWNER/NAME``) to which ``policy_final`` is uploaded; null: no
    upload. A new repository is private."""
    env: Any = None
    """Environment and its options; ``env=NAME`` chooses another one."""
    algo: Any = None
    """Algorithm and its options; ``algo=NAME`` chooses another one than the environment recommends."""
    policy: Any = None
    """Policy and its options; ``policy=NAME`` chooses another one than the environment recommends."""
    engine: Any = None
    """Engine, which generates text with a model, and its options; ``engine=NAME`` chooses another one. It samples for a
    language policy; for other policies it is the environment's generator."""
    reward_model: Any = None
    """Step reward model of the environment and its options; ``reward_model=NAME`` chooses another one."""
    placement: Placement = field(default_factory=Placement)
    """Devices of the run's parts; each entry overrides the ``device`` option of its part."""
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    """Overlap of sampling and learning."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Division of the run over processes and GPUs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        caps = (self.steps, self.epochs)
        if caps == (None, None) or any(cap is not None and cap <= 0 for cap in caps):
            raise OptionError("steps", self.steps, f"and epochs={self.epochs}: give at least one of them, above 0.")


GROUPS: dict[str, tuple[Callable[[], list[str]], Callable[[str], type]]] = {
    "env": (registration.ENVIRONMENTS.names, registration.env_config),
    "algo": (ALGORITHMS.names, lambda name: ALGORITHMS[name].config_class()),
    "policy": (POLICIES.names, lambda name: POLICIES[name].config_class()),
    "engine": (ENGINES.names, lambda name: ENGINES[name].config_class()),
    "reward_model": (REWARD_MODELS.names, lambda name: _reward_model_config(name)),
}
"""For each group, a function that lists its names and one that returns the options dataclass of a name."""


def _reward_model_config(name: str) -> type:
    """Return the options of a step reward model. A run can also train the one named transformers first."""
    if name == "transformers":
        return load_attribute("agents.reward_model.config:RunRewardModelConfig")
    return REWARD_MODELS[name].config_class()


@functools.cache
def choice(config: type, name: str) -> type:
    """Return the dataclass with one more field, ``name``, the name of the part that it configures.

    Fields whose type a configuration file cannot hold (objects shared from Python) take any value.
    """
    hints = get_type_hints(config)
    free = [(f.name, Any, _default_of(f)) for f in fields(config) if not _fits_a_file(hints[f.name])]
    return dataclasses.make_dataclass(f"{config.__name__}Choice", [*free, ("name", str, name)], bases=(config,))


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    return dataclasses.field(default=None if field.default is dataclasses.MISSING else field.default)


@functools.cache
def _fits_a_file(hint: Any) -> bool:
    """Return whether OmegaConf supports a type."""
    try:
        OmegaConf.structured(dataclasses.make_dataclass("Probe", [("value", hint, dataclasses.field(default=MISSING))]))
    except ValidationError:
        return False
    return True


def check_name(group: str, name: str) -> None:
    """Check that a group has a name. The module of ``module:name`` is imported first.

    Raises:
        ReasonEnvsError: the group does not have this name; the message suggests near ones.
    """
    names, config_of = GROUPS[group]
    if ":" in name:
        config_of(name)
    elif name not in names():
        raise unknown_name(group, name, names(), OWN_PART)


def typed(raw: Mapping[str, Any]) -> TrainConfig:
    """Build the typed configuration.

    Returns:
        A ``TrainConfig`` whose groups are instances of the parts' dataclasses (with ``name``).

    Raises:
        ReasonEnvsError: a key or name is unknown, or a value is invalid.
    """
    raw = dict(raw)
    groups = {group: _typed_group(group, raw.pop(group, None)) for group in GROUPS}
    config = _merge(TrainConfig, raw, "the run")
    return dataclasses.replace(config, **groups)


def _typed_group(group: str, raw: Any) -> Any:
    _, config_of = GROUPS[group]
    name = str(raw.get("name") if isinstance(raw, Mapping) else None)
    check_name(group, name)
    with mounted(group):
        return _merge(choice(config_of(name), name), raw, group)


def _merge(schema: type, raw: Mapping[str, Any], where: str) -> Any:
    valid = [field.name for field in fields(schema)]
    for key in raw:
        if key not in valid:
            path = f"{where}.{key}" if where in GROUPS else str(key)
            raise renamed_key(path) or unknown_name(f"key of {where}", str(key), valid)
    replaced = {entry.name: raw[entry.name] for entry in fields(schema) if _replaces(entry, raw.get(entry.name))}
    try:
        kept = {key: escaped(value) for key, value in raw.items() if key not in replaced}
        return dataclasses.replace(_instance(OmegaConf.unsafe_merge(OmegaConf.structured(schema), kept)), **replaced)
    except OmegaConfBaseException as error:
        raise ReasonEnvsError(f"Bad value in {where}: {str(error).splitlines()[0]}") from error


def _replaces(entry: dataclasses.Field[Any], value: Any) -> bool:
    """Return whether a list or mapping replaces an option's default: a mapping, or a dataclass without its keys."""
    default = default_of(entry)
    own = getattr(default, "__dataclass_fields__", {})
    if entry.type is not Any or not (own or isinstance(default, Mapping)):
        return False
    return isinstance(value, list) or (isinstance(value, Mapping) and not (own and value.keys() <= own.keys()))


def _instance(node: Any) -> Any:
    """Build the dataclass that a node describes. Errors of nested dataclasses name the option with its full key."""
    kind = OmegaConf.get_type(node) if OmegaConf.is_dict(node) else None
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return OmegaConf.to_object(node) if OmegaConf.is_config(node) else node
    values = {}
    for name in node:
        with mounted(str(name)):
            values[str(name)] = _instance(node[name])
    return kind(**values)


def changed(part: Any, name: str) -> bool:
    """Return whether an option of a part differs from its default."""
    (entry,) = (f for f in fields(part) if f.name == name)
    return bool(getattr(part, name) != default_of(entry))


def options(part: Any) -> dict[str, Any]:
    """Return the options of a part as keyword arguments: its fields without ``name``."""
    return {f.name: getattr(part, f.name) for f in fields(part) if f.name != "name"}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by full key, such as ``algo.optimizer.learning_rate``."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    inner = (flat(part, f"{prefix}.{key}" if prefix else str(key)) for key, part in value.items())
    return {key: part for each in inner for key, part in each.items()}
