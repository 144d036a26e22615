"""Synchronous calls of one environment: the base of the adapters to Gymnasium's ``Env`` and to PettingZoo."""

from collections.abc import Coroutine, Mapping
from typing import Any

from reason_envs.adapters.loop import run
from reason_envs.batching import gather
from reason_envs.core import Environment, StepResult
from reason_envs.errors import OptionError, printable, unknown_name
from reason_envs.registration import make_environment

Options = dict[str, Any] | None


def make_core(spec: Any, render_mode: str | None, options: Mapping[str, Any]) -> tuple[Environment, bool]:
    """Build an environment that an adapter plays. Returns it, and whether ``render_mode`` is ``human``."""
    human = render_mode == "human"
    return make_environment(spec, render_mode="ansi" if human else render_mode, **options), human


class SynchronousEnv:
    """An environment whose coroutines are awaited. If it is ``human``, each reset and step prints the episode."""

    def __init__(self, environment: Environment, human: bool = False) -> None:
        self.environment = environment
        self.metadata = {**environment.metadata, "render_modes": ["human", *environment.metadata["render_modes"]]}
        self.render_mode = "human" if human else environment.render_mode

    def render(self) -> Any:
        """Render according to ``render_mode``; ``human`` prints the episode and returns ``None``."""
        self.environment.check_started()
        drawn = self.environment.render()
        return print(printable(str(drawn))) if self.render_mode == "human" else drawn

    def close(self) -> None:
        """Close the environment and the parts that it built. Parts that were passed in stay open."""
        self.environment.close()

    def _wait(self, call: Coroutine[Any, Any, StepResult]) -> StepResult:
        (result,) = run(gather(call))
        if self.render_mode == "human":
            self.render()
        return result


def check_reset_options(environment: Environment, options: Any, *more: str) -> None:
    """Refuse reset options that nothing reads."""
    if not isinstance(options, Mapping | None):
        raise OptionError("options", options, 'must be a dict, such as {"task": {"question": ..., "answer": ...}}.')
    for key in options or {}:
        if key not in (valid := (*environment.reset_options, *more)):
            raise unknown_name("option of reset", key, valid, "Name further keys in the environment's reset_options.")
