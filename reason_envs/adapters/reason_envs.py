"""Entry points of the Gymnasium ids. ``gymnasium.pprint_registry`` lists the ids under the last name of this module."""

from typing import Any

from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import RenderCollection

from reason_envs.adapters.gymnasium import GymnasiumAdapter, GymnasiumVectorAdapter
from reason_envs.adapters.synchronous import make_core
from reason_envs.registration import make_environment


def make_env(
    environment: str, *, render_mode: str | None = None, strict: bool = False, **options: Any
) -> GymnasiumAdapter | RenderCollection:
    """Build a registered environment for ``gymnasium.make``.

    ``human`` prints the episode as text, ``MODE_list`` collects what ``MODE`` returns, and ``strict=True`` refuses
    actions outside of the action space.
    """
    mode = render_mode and str(render_mode).removesuffix("_list")
    adapter = GymnasiumAdapter(*make_core(environment, mode, options), strict=strict)
    return adapter if mode == render_mode else RenderCollection(adapter)


def make_vector_env(
    environment: str, num_envs: int, autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP, **options: Any
) -> GymnasiumVectorAdapter:
    """Build a registered environment for ``gymnasium.make_vec``."""
    return GymnasiumVectorAdapter(make_environment(environment, **options), num_envs, autoreset_mode)
