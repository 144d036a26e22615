"""How many tokens are read again if the limit of kept keys and values is small? Trees that grow, with several limits.

    python -m benchmarks.throughput.prefix_memory            # a few minutes on one core
    python -m benchmarks.throughput.prefix_memory 4 512      # these limits, in MB

The embedded generator and step reward model grow 32 trees of 96 nodes at once, each with the limit
(``engine.prefix_cache_mb`` and ``reward_model.prefix_cache_mb``). All limits give the same tokens. The count of tokens
that are read has the prompts of the generator and the solutions of the reward model, without what was kept of them.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from typing import Any

from agents.config.compose import compose_config
from agents.policies.walks import RandomLegal
from agents.rollout.episodes import grouped, play
from agents.training.build import build
from agents.training.resolve import resolve
from reason_envs.llm.prefix_cache import PromptReader

LIMITS = (2, 4, 8, 512)
TREES, NODES = 32, 96


class Growing(RandomLegal):
    """Draws among the actions that add a node; if there are none, it goes back, or takes another legal action."""

    def choose(self, names: list[str], seed: int) -> int:
        """Return the number of an action."""
        adding = [name if name in ("EXPAND", "BRANCH") else "" for name in names]
        going = [name if name == "BACKTRACK" else "" for name in names]
        return super().choose(next(each for each in (adding, going, names) if any(each)), seed)


class CountingReader(PromptReader):
    """Counts the tokens that are read."""

    tokens = 0

    def read(self, rows: Sequence[Any], prefixes: Sequence[Any]) -> Any:
        """Read rows as usual."""
        CountingReader.tokens += sum(map(len, rows))
        return super().read(rows, prefixes)


def grow(limit: int) -> tuple[int, int, float]:
    """Grow trees with a limit in MB; return the tokens that were read and generated, and the seconds."""
    limits = (f"engine.prefix_cache_mb={limit}", f"reward_model.prefix_cache_mb={limit}")
    size = (f"env.max_nodes={NODES}", f"env.max_steps={4 * NODES}", "env.max_branch=64")
    run = build(resolve(compose_config(["env=reason_tree", "algo=ppo", *size, *limits])))
    tasks = [run.environment.tasks[i] for i in range(TREES)]
    CountingReader.tokens, start = 0, time.perf_counter()
    played = asyncio.run(play(run.environment, Growing(), grouped(tasks, 1, seed=0)))
    seconds = time.perf_counter() - start
    run.close()
    return CountingReader.tokens, sum(each.generated_tokens for each in played), seconds


def main() -> None:
    """Print a row per limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("limits", nargs="*", type=int, default=LIMITS, help="limits in MB")
    arguments = parser.parse_args()
    from reason_envs.llm.engines.transformers import decoding
    from reason_envs.reward_models import reader

    decoding.PromptReader = reader.PromptReader = CountingReader  # type: ignore[misc]
    print("| limit, MB | tokens read | tokens generated | seconds |\n|---|---|---|---|")
    for limit in arguments.limits:
        read, generated, seconds = grow(limit)
        print(f"| {limit} | {read:,} | {generated:,} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
