"""Options of a command line, written ``key=value``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reason_envs.errors import ReasonEnvsError


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` pairs; values are YAML, and ``a.b=value`` goes into a mapping ``a``."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for pair in pairs:
        if "=" not in pair:
            raise ReasonEnvsError(f"Options are written key=value, such as max_terms=4; not {pair!r}.")
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist(list(pairs)), resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ReasonEnvsError(f"Cannot read the options {' '.join(pairs)}: {error}") from error
    return {str(key): value for key, value in parsed.items()} if isinstance(parsed, dict) else {}
