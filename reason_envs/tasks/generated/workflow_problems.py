"""Tasks for workflows: sums, questions about facts and one-line functions, in the ratios of AFlow."""

from collections.abc import Mapping
from types import MappingProxyType

from reason_envs.tasks.base import Split
from reason_envs.tasks.mixture import MixtureTaskSet, mixture

FAMILIES = {"math": "chain_sum", "qa": "fact_qa", "code": "one_line_code"}
RATIOS: Mapping[str, float] = MappingProxyType({"math": 0.4, "qa": 0.3, "code": 0.3})


def workflow_problems(
    split: Split, *, ratios: Mapping[str, float] = RATIOS, size: int = 4000, seed: int = 0
) -> MixtureTaskSet:
    """Sums, questions about facts and one-line functions, mixed.

    Args:
        split: ``"train"`` or ``"test"``.
        ratios: share of each of the domains ``math``, ``qa`` and ``code``.
        size: number of tasks.
        seed: seed that shuffles the tasks of each domain.
    """
    parts = {domain: {"ratio": ratio, "name": FAMILIES.get(domain, domain)} for domain, ratio in ratios.items()}
    return mixture(split, parts=parts, size=size, seed=seed)
