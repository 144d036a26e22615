"""What Stable-Baselines3 played: the episodes that have ended, and the actions that a resumed run repeats."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from agents.policies.actor_critic import NetworkPolicy
from agents.rollout.episodes import numbers
from agents.trajectory import Decision, Trajectory


@dataclass
class Played:
    """What was played in one environment."""

    ended: int = 0
    """Number of episodes that have ended."""
    past: list[list[int]] = field(default_factory=list)
    """Actions of the latest of them."""
    open: list[list[Any]] = field(default_factory=list)
    """Action, log-probability, reward and version of the weights of each decision of the open episode."""

    def repeated(self) -> tuple[int, list[int]]:
        """Return the actions that a resumed run repeats, and the number of episodes that had ended before them."""
        return self.ended - len(self.past), [*chain(*self.past), *(action for action, *_ in self.open)]


class EpisodeRecorder(BaseCallback):
    """Records what is played in each environment and returns the episodes that have ended."""

    def __init__(self, agent: str, policy: NetworkPolicy, num_envs: int) -> None:
        super().__init__()
        self.ended: list[Trajectory] = []
        """Episodes that have ended since the last rollout."""
        self.slots = [Played() for _ in range(num_envs)]
        """What was played in each environment."""
        self._agent = agent
        self._policy = policy

    def played(self) -> list[dict[str, Any]]:
        """Return what a resumed run repeats: the actions of all environments since the oldest open episode started.

        Numbers are rounded differently in batches of other sizes, so it is not enough to repeat the open episodes.
        """
        longest = max(len(slot.open) for slot in self.slots)
        for slot in self.slots:
            while slot.past and sum(map(len, slot.past[1:])) + len(slot.open) >= longest:
                del slot.past[0]
        return [asdict(slot) for slot in self.slots]

    def _on_step(self) -> bool:
        parts = (self.locals[name] for name in ("actions", "log_probs", "rewards", "dones", "infos"))
        for slot, action, log_prob, reward, done, info in zip(self.slots, *parts, strict=True):
            slot.open.append([int(action), float(log_prob), float(reward), self._policy.version])
            if done:
                self._end(slot, info)
        return True

    def _end(self, slot: Played, info: Mapping[str, Any]) -> None:
        facts = dict(info)
        truncated = facts.pop("TimeLimit.truncated")  # Stable-Baselines3 adds it to the environment's info
        name = f"sb3/{1 + sum(slot.ended for slot in self.slots)}"
        self.ended.append(
            Trajectory(
                task_id=info.get("task_id", ""),
                episode_id=name,
                decisions=[self._decision(name, turn, *parts) for turn, parts in enumerate(slot.open)],
                terminated=not truncated,
                truncated=truncated,
                metrics=numbers(facts),
            )
        )
        slot.past.append([action for action, *_ in slot.open])
        slot.ended, slot.open = slot.ended + 1, []

    def _decision(self, episode: str, turn: int, action: int, log_prob: float, reward: float, version: int) -> Decision:
        choice = replace(self._policy.choice(action, log_prob, self._policy.sampling), policy_version=version)
        return Decision(episode, self._agent, turn, choice, reward, group_id="")
