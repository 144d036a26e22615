"""The configuration of a run: one typed tree, checked before anything is computed."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from agents.config.renamed import renamed_key
from agents.registry import ALGORITHMS, POLICIES
from reason_envs import registration
from reason_envs.errors import OWN_PART, OptionError, ReasonEnvsError, unknown_name
from reason_envs.llm import ENGINES
from reason_envs.registry import load_attribute
from reason_envs.reward_models.base import REWARD_MODELS
from reason_envs.validation import at_least, mounted

LEAST = {
    **{"eval_every": 0, "eval_episodes": 0, "save_every": 0, "max_minutes": 0},
    **{"eval_tasks": 1, "eval_samples": 1, "keep_last": 1, "log_every": 1},
}
"""The smallest value of an option."""


@dataclass
class Placement:
    """Devices of a run's parts; null leaves the part's own ``device`` option."""

    generator: str | None = None
    """Of the engine that writes the steps of ``policy=graph``: ``engine.device``."""
    reward_model: str | None = None
    """Of the step reward model, its fine-tuning included: ``reward_model.device``."""
    policy: str | None = None
    """Of the policy that is trained: ``policy.device``."""
    roles: Any = None
    """Of roles with a model each (``policy.sharing=model_per_role``), learner and sampler both: a mapping such as
    ``{coder: cuda:0, tester: cuda:1}``."""


@dataclass
class TrainConfig:
    """Options of ``python -m agents.train``."""

    seed: int = 0
    """Keys everything random in the run."""
    output_dir: str = "runs/${now:%Y%m%d-%H%M%S}"
    """The run folder; one that holds a run already is refused (resume it instead)."""
    resume: str | None = None
    """Folder of a run to continue exactly; only ``steps``, ``epochs`` and ``max_minutes`` may be given with it."""
    init_from: str | None = None
    """Checkpoint folder (``checkpoints/step_N``) whose policy weights a new run starts from."""
    steps: int | None = 60
    """Most training steps (one step: collect a batch of episodes, update); null: only ``epochs`` ends the run."""
    epochs: float | None = None
    """Most passes over the training tasks; null: only ``steps`` ends the run. With both, whichever is reached first."""
    max_minutes: float | None = None
    """Stop, saving, after this many minutes of training."""
    eval_set: Any = None
    """Problems of the evaluations, as ``env.tasks`` takes them; null: the test split of ``env.tasks``."""
    eval_every: int = 25
    """Evaluate on held-out tasks every so many steps, and before and after training; 0: never."""
    eval_tasks: int = 256
    """Held-out tasks of each evaluation during training."""
    eval_samples: int = 1
    """Samples a task at the training temperature."""
    eval_episodes: int = 64
    """Held-out episodes of each evaluation that ``validate/`` keeps whole, for ``python -m agents.report``."""
    save_every: int = 50
    """Write a checkpoint every so many steps (the last step always writes one); 0: only at the end."""
    keep_last: int = 2
    """Checkpoints kept besides the best by held-out accuracy."""
    log_every: int = 1
    """Steps between lines of ``summary.log`` and points of the curves."""
    wandb: bool = False
    """Also log to Weights & Biases (extra ``[wandb]``)."""
    wandb_project: str | None = None
    """Project there; null: ``reason-envs``."""
    wandb_run_name: str | None = None
    """The run's name there; null: its folder's."""
    push_to_hub: str | None = None
    """Repository on the Hugging Face hub (``NAME`` or ``OWNER/NAME``) that gets ``policy_final`` in the end; null: none
    does. A new repository is private."""
    env: Any = None
    """The environment: one of the ``env=`` names."""
    algo: Any = None
    """The learner: one of the ``algo=`` names."""
    policy: Any = None
    """The policy: one of the ``policy=`` names."""
    engine: Any = None
    """The engine: one of the ``engine=`` names. A language policy samples with it; for a policy that writes no text it
    is the environment's generator."""
    reward_model: Any = None
    """The environment's step reward model: one of the ``reward_model=`` names."""
    placement: Placement = field(default_factory=Placement)
    """Devices, in one place."""

    def __post_init__(self) -> None:
        at_least(self, **LEAST)
        caps = (self.steps, self.epochs)
        if caps == (None, None) or any(cap is not None and cap <= 0 for cap in caps):
            raise ReasonEnvsError(f"steps={caps[0]} and epochs={caps[1]}: at least one must be given, above 0.")


GROUPS: dict[str, tuple[Callable[[], list[str]], Callable[[str], type]]] = {
    "env": (registration.names, registration.env_config),
    "algo": (ALGORITHMS.names, lambda name: ALGORITHMS[name].config_class()),
    "policy": (POLICIES.names, lambda name: POLICIES[name].config_class()),
    "engine": (ENGINES.names, lambda name: ENGINES[name].config_class()),
    "reward_model": (REWARD_MODELS.names, lambda name: _reward_model_config(name)),
}
"""Each group's names and the dataclass behind a name."""


def _reward_model_config(name: str) -> type:
    """The options of a step reward model; a run can also train the one on transformers first."""
    if name == "transformers":
        return load_attribute("agents.training.reward_model_phase:RunRewardModelConfig")
    return REWARD_MODELS[name].config_class()


@functools.cache
def choice(config: type, name: str) -> type:
    """Return the dataclass plus a field ``name`` that says which part it configures.

    Fields of types that a configuration file cannot hold (objects shared from Python) may be anything there.
    """
    hints = get_type_hints(config)
    free = [(f.name, Any, _default_of(f)) for f in fields(config) if not _fits_a_file(hints[f.name])]
    return dataclasses.make_dataclass(f"{config.__name__}Choice", [*free, ("name", str, name)], bases=(config,))


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    return dataclasses.field(default=None if field.default is dataclasses.MISSING else field.default)


def _fits_a_file(hint: Any) -> bool:
    """Whether OmegaConf knows a type."""
    try:
        OmegaConf.structured(dataclasses.make_dataclass("Probe", [("value", hint, dataclasses.field(default=MISSING))]))
    except ValidationError:
        return False
    return True


def check_name(group: str, name: str) -> None:
    """Refuse a name that a group does not have; ``module:name`` is looked up once its module is imported."""
    names, config_of = GROUPS[group]
    if ":" in name:
        config_of(name)
    elif name not in names():
        raise unknown_name(group, name, names(), OWN_PART)


def typed(raw: Mapping[str, Any]) -> TrainConfig:
    """Build the typed configuration; unknown keys, names and badly typed values are errors.

    Returns:
        A ``TrainConfig`` whose groups are instances of the parts' dataclasses (with ``name``).
    """
    raw = dict(raw)
    groups = {group: _typed_group(group, raw.pop(group, None)) for group in GROUPS}
    config = _merge(TrainConfig, raw, "the run")
    return dataclasses.replace(config, **groups)


def _typed_group(group: str, raw: Any) -> Any:
    _, config_of = GROUPS[group]
    name = str(raw.get("name") if isinstance(raw, Mapping) else None)
    check_name(group, name)
    schema = choice(config_of(name), name)
    try:
        with mounted(group):
            return _merge(schema, raw, group)
    except OptionError:
        raise
    except ReasonEnvsError as error:
        own = "|".join(re.escape(f.name) for f in fields(schema))
        raise ReasonEnvsError(re.sub(rf"^(Unknown )?(?=({own})[= ])", rf"\1{group}.", str(error))) from error


def _merge(schema: type, raw: Mapping[str, Any], where: str) -> Any:
    valid = [field.name for field in fields(schema)]
    for key in raw:
        if key not in valid:
            path = f"{where}.{key}" if where in GROUPS else str(key)
            raise renamed_key(path) or unknown_name(f"key of {where}", str(key), valid)
    try:
        return _instance(OmegaConf.merge(OmegaConf.structured(schema), raw))
    except OmegaConfBaseException as error:
        raise ReasonEnvsError(f"Bad value in {where}: {str(error).splitlines()[0]}") from error


def _instance(node: Any) -> Any:
    """Build the dataclass that a node describes; errors of nested dataclasses name their place."""
    kind = OmegaConf.get_type(node) if OmegaConf.is_dict(node) else None
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return OmegaConf.to_object(node) if OmegaConf.is_config(node) else node
    values = {}
    for name in node:
        with mounted(str(name)):
            values[str(name)] = _instance(node[name])
    return kind(**values)


def changed(part: Any, name: str) -> bool:
    """Whether an option of a part differs from its default."""
    (entry,) = (f for f in fields(part) if f.name == name)
    default = entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()
    return bool(getattr(part, name) != default)


def options(part: Any) -> dict[str, Any]:
    """Return a group's options as keyword arguments: its fields without ``name``."""
    return {f.name: getattr(part, f.name) for f in fields(part) if f.name != "name"}
