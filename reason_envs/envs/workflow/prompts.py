"""Prompts of policy and executor: full ones for language models, brief ones for the embedded model."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from reason_envs.envs.prompt_templates import fill
from reason_envs.resources import read_table

DOMAINS = ("math", "qa", "code")
STYLES = ("full", "brief")
"""Names of the sets of prompts."""


@dataclass(frozen=True)
class Prompts:
    """A set of prompts."""

    policy: str
    """Prompt of the policy with the places ``{operators}``, ``{domain}`` and ``{problem}``."""
    domains: Mapping[str, str]
    """Rule of each domain."""
    operators: Mapping[str, str]
    """Description of each operator."""
    ask: Mapping[str, str]
    """Prompt of the executor for each operator, with places for its fields."""

    def workflow(self, domain: str, problem: str) -> str:
        """Return the policy's prompt for a problem."""
        return fill(
            self.policy, operators="\n".join(self.operators.values()), domain=self.domains[domain], problem=problem
        )


@cache
def prompts(style: str) -> Prompts:
    """Return a set of prompts, one of ``STYLES``, from its file."""
    return Prompts(**read_table(__file__, f"{style}_prompts.yaml"))
