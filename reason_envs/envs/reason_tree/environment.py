"""ReasonTree-v0: a policy decides where a tree of reasoning steps grows, and when to answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from gymnasium.spaces import Discrete

from reason_envs.core import Action, AgentId, Message, StepResult, derive_seed
from reason_envs.envs.prompt_templates import chat
from reason_envs.envs.reason_tree import render_text as text
from reason_envs.envs.reason_tree.config import ReasonTreeConfig
from reason_envs.envs.reason_tree.grower import Grower
from reason_envs.envs.reason_tree.observation import Observation, observation_space, observe
from reason_envs.envs.reason_tree.render_text import write_page
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.envs.task_environment import TaskEnvironment, TaskState
from reason_envs.llm import make_engine, placed
from reason_envs.reward_models.base import make_reward_model
from reason_envs.rewards import MathReward, RandomReward, RewardFunction, make_reward, weighted
from reason_envs.tasks import Task
from reason_envs.validation import mounted
from reason_envs.views import EpisodeView, NodeView, TreeView

SEARCHER: AgentId = "searcher"
EXPAND, BRANCH, BACKTRACK, TERMINATE = range(4)


@dataclass
class ReasonTreeState(TaskState):
    """State of an episode."""

    tree: Tree
    """The tree of reasoning steps."""
    current: int = 0
    """Index of the current node."""
    steps: int = 0
    """Number of actions taken, illegal ones included."""
    illegal: int = 0
    """Number of illegal actions."""
    answered: bool = False
    """Whether an answer was submitted."""
    visit_history: list[tuple[int, int]] = field(default_factory=list)
    """Current node and number of nodes after each action."""


class ReasonTree(TaskEnvironment):
    """The agent ``searcher`` grows a tree of reasoning steps and moves in it.

    EXPAND (0) draws a step under the current node and goes there. BRANCH (1) draws an alternative to the current node
    and goes there. BACKTRACK (2) goes to the parent. TERMINATE (3) submits the answer of the current path. An illegal
    action (see `action_masks`) changes nothing and costs ``illegal_penalty``. After ``max_steps`` actions the episode
    is truncated.

    The reward of an action is the change of the path value minus the cost of the action. These rewards telescope: over
    an episode, only the value of the last path counts.

    Steps are used as generated: an empty step, or one that repeats the previous step, is a node like any other. It
    takes an action and a level of depth. A step that equals a sibling is merged with it. EXPAND continues a step that
    was cut at ``max_step_tokens``. No step is drawn if it would not fit into the generator's context.
    """

    agents = (SEARCHER,)
    discount = 1.0
    metadata = {"render_modes": ["ansi", "rgb_array", "html"], "render_fps": 4}  # noqa: RUF012
    action_names: tuple[str, ...] = ("EXPAND", "BRANCH", "BACKTRACK", "TERMINATE")
    config: ReasonTreeConfig

    def __init__(self, config: ReasonTreeConfig | None = None) -> None:
        config, actions = config or ReasonTreeConfig(), len(self.action_names)
        super().__init__(config, observation_space(config, actions, 0), Discrete(actions))
        with mounted("reward"):
            self.reward = self.graded_by = _final_reward(config.reward, config)
        engine = self.own("engine", make_engine, placed(config.engine, config.device))
        self._observation_space = observation_space(config, actions, engine.embedding_size)
        scorer = self.own("reward_model", make_reward_model, placed(config.reward_model, config.device))
        self.grower = Grower(engine, scorer, config)
        self._costs: tuple[float, ...] = (config.expand_cost, config.branch_cost, config.backtrack_cost, 0.0)

    def start(self, seed: int, task: Task) -> ReasonTreeState:
        """Return the state at the start of an episode: a tree without steps."""
        tree_seed = seed if self.config.seed_scope == "episode" else derive_seed("task", task.id)
        tree = self.grower.start(task.question, chat(task.question, self.config.system_prompt), tree_seed)
        tree.nodes[0].visits += 1
        return ReasonTreeState(seed, task, tree)

    def first_result(self) -> StepResult:
        """Return the observation of the new tree."""
        return self._continue({}, valid=True)

    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Take an action. An illegal action only costs ``illegal_penalty``."""
        self.check_running()
        action = actions[SEARCHER]
        valid = self._action_space.contains(action) and bool(self.action_masks()[int(action)])
        self.state.steps += 1
        self.state.illegal += not valid
        before = self._value()
        if valid:
            await self._move(int(action))
        self.state.visit_history.append((self.state.current, len(self.state.tree.nodes)))
        reward = self.config.value_weight * (self._value() - before) - self.config.step_penalty
        reward -= self._costs[int(action)] if valid else self.config.illegal_penalty
        limit = self.config.max_steps or 4 * self.config.max_depth
        self.state.done = self.state.answered or self.state.steps >= limit
        return await self._end(reward, valid) if self.state.done else self._continue({SEARCHER: reward}, valid)

    def fork(self, seed: int | None = None) -> Self:
        """Copy the episode. With ``seed_scope="task"`` the copy has the same draws for every ``seed``."""
        clone = super().fork(seed)
        if seed is not None and self.config.seed_scope == "episode":
            clone.state.tree.seed = clone.state.seed
        return clone

    def action_masks(self) -> np.ndarray:
        """Return which actions are legal now, as booleans [4]."""
        self.check_started()
        tree, current = self.state.tree, self.state.current
        below_root = current != 0
        mask = np.array(
            [
                self.grower.may_grow(tree, current),
                below_root and self.grower.may_grow(tree, tree.nodes[current].parent),
                below_root,
                tree.nodes[current].terminal,
            ]
        )
        mask[TERMINATE] |= not mask.any()
        return mask

    def render_messages(self, observation: Observation) -> list[Message]:
        """Convert the current tree and the legal actions to chat messages for a language policy."""
        legal = {number: self.action_names[number] for number in np.flatnonzero(self.action_masks()).tolist()}
        return text.messages(self.state.tree, self.state.current, legal)

    def parse_action(self, response: str) -> int:
        r"""Return the last action in a text, such as ``BRANCH`` or ``\boxed{1}``; the illegal -1 if there is none."""
        return text.chosen(response, self.action_names)

    def render(self) -> Any:
        """Return the tree as text (``ansi``), an image [H, W, 3] (``rgb_array``) or a standalone page (``html``)."""
        if self.render_mode is None or self.state is None:
            return None
        from reason_envs.envs.reason_tree.render_image import draw_image  # loads matplotlib

        draw = {"ansi": text.draw, "rgb_array": draw_image, "html": write_page}[self.render_mode]
        return draw(self.state.tree, self.state.current)

    def view(self) -> EpisodeView | None:
        """Return the tree and the nodes that the policy visited."""
        if self.state is None:
            return None
        nodes = [
            NodeView(n.parent, n.text, n.score, n.value, n.log_prob, n.tokens, n.terminal)
            for n in self.state.tree.nodes
        ]
        return EpisodeView(TreeView(nodes, self.state.current, list(self.state.visit_history)))

    # --- effect of an action

    async def _move(self, action: int) -> None:
        state = self.state
        parent = state.tree.nodes[state.current].parent
        if action == BACKTRACK:
            self._go(parent)
        elif action == TERMINATE:
            state.answered = True
        else:
            child = await self.grower.grow(state.tree, state.current if action == EXPAND else parent)
            if child is not None:
                self._go(child)

    def _go(self, node: int) -> None:
        self.state.current = node
        self.state.tree.nodes[node].visits += 1

    def _value(self) -> float:
        return self.state.tree.nodes[self.state.current].value

    # --- results

    def _continue(self, rewards: dict[AgentId, float], valid: bool) -> StepResult:
        observation, info = self._observed(valid)
        return StepResult({SEARCHER: observation}, rewards, info=info)

    async def _end(self, reward: float, valid: bool) -> StepResult:
        """End the episode: grade the submitted answer, or none if the episode is truncated."""
        state, answered = self.state, self.state.answered
        observation, info = self._observed(valid)
        response = self.grower.response(state.tree, state.current) if answered else ""
        final = await self.reward(response, self.task, derive_seed(state.seed, SEARCHER, state.steps))
        if answered:
            reward += final.value
        return StepResult(
            {},
            {SEARCHER: reward},
            {SEARCHER: answered},
            {SEARCHER: not answered},
            {SEARCHER: observation},
            {**info, "solution": response, **final.info},
        )

    def _observed(self, valid: bool) -> tuple[Observation, dict[str, Any]]:
        """Return the observation and the ``info`` of every step."""
        mask, tree = self.action_masks(), self.state.tree
        observation = observe(tree, self.state.current, mask, self.config, self.grower.engine.embedding_size)
        return observation, {
            "task_id": self.task.id,
            "valid_action": valid,
            "action_mask": mask.astype(np.int8),
            "generated_tokens": tree.generated_tokens,
            "generator_calls": tree.generator_calls,
            "cut_steps": tree.cut_steps,
            "reward_model_calls": tree.reward_model_calls,
            "reward_model_tokens": tree.reward_model_tokens,
            "illegal_actions": self.state.illegal,
            "nodes": len(tree.nodes),
            "depth": max(node.depth for node in tree.nodes),
            "path_value": self._value(),
        }


def _final_reward(spec: Any, config: ReasonTreeConfig) -> RewardFunction:
    correct, wrong = config.final_reward_correct, config.final_reward_wrong
    if isinstance(spec, list | tuple):
        return weighted(spec, lambda part: _final_reward(part, config))
    if spec in ("math", {"name": "math"}):
        return MathReward(correct, wrong, no_answer=wrong, fallbacks=config.fallbacks)
    if spec in ("random", {"name": "random"}):
        return RandomReward(correct, wrong, fallbacks=config.fallbacks)
    return make_reward(spec)
