"""Executors of the operators: engines with their sampling and prices, from options or from a file of AFlow."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reason_envs.envs.workflow.config import WorkflowConfig
from reason_envs.envs.workflow.operator_signatures import OPERATORS
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm import make_engine, placed
from reason_envs.llm.embedded import is_embedded
from reason_envs.llm.engine import Engine, Sampling
from reason_envs.validation import mounted

_VARIABLE = re.compile(r"\$\{?(?:oc\.env:)?([A-Za-z_]\w*)\}?")
MODEL_FIELDS = ("api_type", "base_url", "api_key", "temperature", "top_p", "max_tokens", "input_price", "output_price")
"""Keys of a model in the file that are not options of its engine."""
MILLION = 1e6


@dataclass(frozen=True)
class Executor:
    """A model that runs operators."""

    engine: Engine
    """Engine of the model."""
    sampling: Sampling
    """Sampling parameters of the answers."""
    input_price: float = 0.0
    """Price of a million prompt tokens."""
    output_price: float = 0.0
    """Price of a million generated tokens."""

    def cost(self, prompt_tokens: int, generated_tokens: int) -> float:
        """Return the cost of an answer."""
        return (prompt_tokens * self.input_price + generated_tokens * self.output_price) / MILLION


def build_executors(config: WorkflowConfig, own: Callable[..., Engine]) -> dict[str, Executor]:
    """Build the executor of every operator. Operators with equal specifications share an engine.

    Args:
        config: options of the environment.
        own: makes an engine that the environment closes (``Environment.own``).
    """
    models = read_models(Path(config.aflow_config_path)) if config.aflow_config_path is not None else {}
    main: Any = config.engine
    if models:
        chosen = config.aflow_executor_model or (next(iter(models)) if len(models) == 1 else None)
        if chosen not in models:
            raise unknown_name(f"aflow_executor_model in {config.aflow_config_path}", str(chosen), models)
        main = chosen
    built: list[tuple[Any, Executor]] = []

    def executor(spec: Any, option: str) -> Executor:
        for known, there in built:
            if known is spec or known == spec:
                return there
        prices: dict[str, float] = {}
        engine, sampling = spec, _sampling(spec, config)
        if isinstance(spec, str) and spec in models:
            with mounted(option):
                engine, sampling, prices = _read_model(models[spec], config)
        made = Executor(own(option, make_engine, placed(engine, config.device)), sampling, **prices)
        built.append((spec, made))
        return made

    special = config.executors
    return {
        name: executor(special[name], f"executors.{name}") if name in special else executor(main, "engine")
        for name in OPERATORS
    }


def read_models(path: Path) -> dict[str, dict[str, Any]]:
    """Read a file of models of AFlow: ``models: {NAME: {...}}``.

    Each model may have ``api_type`` (``openai``, the default, or the name of another engine), ``base_url``,
    ``api_key`` (an environment variable as ``${NAME}``; keys themselves are refused), ``temperature``, ``top_p``,
    ``max_tokens``, ``input_price`` and ``output_price`` (per million tokens), and options of its engine.
    """
    raw = read_yaml(path)
    models = raw.get("models", raw)
    if not isinstance(models, Mapping) or not models or not all(isinstance(m, Mapping) for m in models.values()):
        raise ReasonEnvsError(f"{path}: write models: {{NAME: {{base_url: ..., api_key: ${{VARIABLE}}}}}}.")
    for name, model in models.items():
        key = model.get("api_key")
        if key is not None and not (isinstance(key, str) and _VARIABLE.fullmatch(key)):  # it is not repeated
            raise ReasonEnvsError(
                f"{path}: model {name!r} contains an api_key. Store keys in an environment variable and write "
                "api_key: ${OPENAI_API_KEY}."
            )
    return {str(name): {**model, "name": str(name)} for name, model in models.items()}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML (or JSON) file that holds a mapping."""
    import yaml

    if not path.is_file():
        raise ReasonEnvsError(f"File {path} does not exist (searched in {path.parent.absolute()}).")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
        raise ReasonEnvsError(f"Cannot read {path}: {problem}.") from None
    if not isinstance(raw, dict):
        raise ReasonEnvsError(f"{path} must contain a mapping of names, not {type(raw).__name__}.")
    return raw


def read_descriptions(path: Path) -> dict[str, str]:
    """Read descriptions of operators: ``{NAME: text}`` or ``{NAME: {description: ..., interface: ...}}``."""
    raw = read_yaml(path)
    raw = raw.get("operators", raw)
    found = {}
    for name, entry in raw.items():
        if name not in OPERATORS:
            raise unknown_name(f"operator in {path}", str(name), OPERATORS)
        if isinstance(entry, Mapping) and isinstance(entry.get("description"), str):
            interface = f" Interface: {entry['interface']}" if entry.get("interface") else ""
            entry = f"{name}: {entry['description']}{interface}"
        if not isinstance(entry, str):
            raise ReasonEnvsError(f"{path}: {name} must be a text, or a mapping with a description.")
        found[str(name)] = entry
    return found


def _read_model(model: dict[str, Any], config: WorkflowConfig) -> tuple[dict[str, Any], Sampling, dict[str, float]]:
    """Return the engine's specification, the sampling and the prices of a model of the file."""
    options = {key: value for key, value in model.items() if key not in (*MODEL_FIELDS, "name")}
    kind = model.get("api_type", "openai")
    options.setdefault("model", model["name"])
    if kind == "openai":
        options |= {"base_url": model["base_url"]} if "base_url" in model else {}
        if model.get("api_key"):
            options["api_key_env"] = _VARIABLE.fullmatch(model["api_key"])[1]  # type: ignore[index]  # checked
    sampling = _sampling(model, config)
    prices = {name: float(model.get(name, 0.0)) for name in ("input_price", "output_price")}
    return {"name": kind, **options}, sampling, prices


def _sampling(spec: Any, config: WorkflowConfig) -> Sampling:
    """Return the sampling of an engine, or that of a model of the file."""
    model = spec if isinstance(spec, Mapping) else {}
    length = config.executor_max_tokens or (96 if is_embedded(str(model.get("model"))) else 2048)
    return Sampling(
        model.get("max_tokens", length),
        model.get("temperature", config.executor_temperature),
        model.get("top_p", config.executor_top_p),
    )
