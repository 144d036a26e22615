"""Growth of a tree: the generator samples a step, the reward model scores it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reason_envs.batching import gather
from reason_envs.core import Message, derive_seed
from reason_envs.envs.reason_tree.config import GrowthConfig
from reason_envs.envs.reason_tree.steps import StepRule, draw_step
from reason_envs.envs.reason_tree.tree import Tree, new_tree
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.chat import THOUGHT, encode_prompt, opens_thought
from reason_envs.llm.engine import Engine, Generation, GenerationRequest, Sampling, greedy
from reason_envs.reward_models.base import StepRewardModel, StepScoreRequest
from reason_envs.rewards.math.extract import extract_answer
from reason_envs.tasks.text import without_thoughts


class Grower:
    """Draws steps for trees, and scores them. Calls for several trees are batched.

    The engine must return token ids, because a step continues the tokens of its path.
    """

    def __init__(self, engine: Engine, reward_model: StepRewardModel, config: GrowthConfig) -> None:
        self.engine = engine
        self.reward_model = reward_model
        self.config = config
        self.rule = StepRule.of(config.separator, engine.model_name)
        """Rule that ends a step."""
        self.sampling = Sampling(
            config.max_step_tokens, config.temperature, top_p=config.top_p, stop=(self.rule.separator,)
        )
        self._tokenizer = engine.tokenizer
        self.context_length = engine.context_length
        """Maximum number of tokens in the generator's context; ``None`` if it is unknown."""

    def start(self, question: str, messages: list[Message], seed: int) -> Tree:
        """Return a tree without steps.

        Raises:
            ReasonEnvsError: the prompt leaves no room for a step in the generator's context.
        """
        prompt: list[Any] = messages if self._tokenizer is None else encode_prompt(self._tokenizer, messages)
        tree = new_tree(question, prompt, seed, self.config.aggregation)
        if self._tokenizer is not None and opens_thought(self._tokenizer, prompt):
            tree.nodes[0].unfinished = THOUGHT
        if self._room(tree, 0) < self.config.max_step_tokens:
            raise ReasonEnvsError(
                f"A prompt of {len(prompt)} tokens and max_step_tokens={self.config.max_step_tokens} exceed the "
                f"generator's {self.context_length} positions: shorten the problem or lower max_step_tokens."
            )
        return tree

    def may_grow(self, tree: Tree, index: int) -> bool:
        """Whether the limits and the generator allow another child of a node."""
        node, config = tree.nodes[index], self.config
        return (
            not node.terminal
            and not node.closed
            and node.depth < config.max_depth
            and len(tree.nodes) < config.max_nodes
            and len(node.children) < config.max_branch
            and self._room(tree, index) >= config.max_step_tokens
            and self.engine.can_answer(self._seed(tree, index))
        )

    def request(self, tree: Tree, index: int) -> GenerationRequest:
        """Return the request for the next child of a node. Its seed depends on the path and the draw alone."""
        return GenerationRequest(
            tree.prompt + [token for i in tree.path(index) for token in tree.nodes[i].token_ids],
            self._seed(tree, index),
            self.sampling,
            keep_prefix=True,
            prefix_cache=tree.nodes[index].generator_prefix_cache,
        )

    async def grow(self, tree: Tree, parent: int) -> int | None:
        """Draw a step under ``parent`` and score it.

        Returns:
            The new node. If ``parent`` has an equal child, that child, whose tokens increase. ``None`` if the generator
            is exhausted, which closes the parent.
        """
        generation = await self.draw(tree, parent)
        return None if generation is None else await self.attach(tree, parent, generation)

    async def draw(self, tree: Tree, parent: int) -> Generation | None:
        """Generate the next child of a node without adding it; ``None`` if the generator is exhausted."""
        request = self.request(tree, parent)
        tree.nodes[parent].draw_count += 1
        tree.generator_calls += 1
        generation = await draw_step(self.engine, request, self.rule, tree.nodes[parent].unfinished)
        if generation.finish_reason == "exhausted":
            tree.nodes[parent].closed = True
            return None
        return generation

    async def attach(self, tree: Tree, parent: int, generation: Generation) -> int:
        """Add a generated step to the tree and score it; an equal child only adds up the tokens."""
        tokens = generation.generated_tokens
        tree.generated_tokens += tokens
        if parent == 0 and not (tree.prompt and isinstance(tree.prompt[0], int)):
            tree.prompt = generation.prompt_ids or tree.prompt
        if parent == 0 and generation.prompt_prefix_cache is not None:
            tree.nodes[0].generator_prefix_cache = generation.prompt_prefix_cache
        before = tree.nodes[parent].unfinished
        whole = before + generation.text
        has_answer = self.answer(whole) is not None
        cut = generation.finish_reason == "length" and generation.stop_string is None and not has_answer
        tree.cut_steps += cut
        text = without_thoughts(whole if THOUGHT in before else generation.text)
        text = text if before else text.lstrip()
        text = text if cut else text.rstrip()
        duplicate = next((child for child in tree.nodes[parent].children if tree.nodes[child].text == text), None)
        if duplicate is not None:
            tree.nodes[duplicate].tokens += tokens
            return duplicate
        self._check_tokens(tree, generation)
        cache = tree.nodes[parent].reward_model_prefix_cache
        scored = StepScoreRequest(tree.question, (*tree.steps(parent), text), keep_prefix=True, prefix_cache=cache)
        tree.reward_model_calls += 1
        tree.reward_model_tokens += self.reward_model.count_tokens(scored)
        scored_steps = await self.reward_model.score(scored)
        if tree.nodes[0].reward_model_prefix_cache is None:
            tree.nodes[0].reward_model_prefix_cache = scored_steps.prompt_prefix_cache
        log_probs = generation.log_probs or [0.0]
        return tree.add(
            parent,
            text,
            token_ids=generation.token_ids,
            log_prob=sum(log_probs) / len(log_probs),
            min_log_prob=min(log_probs),
            tokens=tokens,
            score=scored_steps.scores[-1],
            terminal=has_answer or (generation.stop_string is None and not cut),
            unfinished=whole if cut else "",
            embedding=generation.embedding,
            generator_prefix_cache=generation.prefix_cache,
            reward_model_prefix_cache=scored_steps.prefix_cache,
        )

    def to_the_end(self, tree: Tree, index: int = 0) -> Sampling:
        """Return the sampling of a whole text after a node: at most ``max_depth`` full steps, if they fit."""
        longest = min(self.config.max_depth * self.config.max_step_tokens, self._room(tree, index))
        return replace(self.sampling, max_tokens=int(longest), stop=())

    async def complete(self, tree: Tree, index: int) -> str:
        """Return the text of a path with its most likely continuation, whose tokens count. An ended path stays."""
        path, node, request = self.response(tree, index), tree.nodes[index], self.request(tree, index)
        if node.terminal or node.closed or self._room(tree, index) < 1:
            return path
        seed, sampling = derive_seed(request.seed, "complete"), greedy(self.to_the_end(tree, index))
        (rest,) = await self.engine.generate(replace(request, seed=seed, sampling=sampling))
        tree.generator_calls += 1
        tree.generated_tokens += rest.generated_tokens
        return path + self.rule.separator * bool(path and not node.unfinished) + rest.text

    def answer(self, text: str) -> str | None:
        """Return the answer in a step; ``None`` if it has none."""
        return extract_answer(text, self.config.fallbacks)

    def response(self, tree: Tree, index: int) -> str:
        """Return the text of the path to ``index`` for the grader."""
        nodes, separator = [tree.nodes[i] for i in tree.path(index)], self.rule.separator
        return "".join(node.text + ("" if node.unfinished else separator) for node in nodes).removesuffix(separator)

    def _seed(self, tree: Tree, index: int) -> int:
        return derive_seed(tree.seed, "step", *tree.address(index), tree.nodes[index].draw_count)

    def _room(self, tree: Tree, index: int) -> float:
        """Return the number of tokens that fit into the generator's context after a node."""
        used = len(tree.prompt) + sum(len(tree.nodes[i].token_ids) for i in tree.path(index))
        return math.inf if self.context_length is None else self.context_length - used

    def _check_tokens(self, tree: Tree, generation: Generation) -> None:
        if generation.generated_tokens and not (generation.token_ids and isinstance(tree.prompt[0], int)):
            raise ReasonEnvsError(
                "The generator does not return the token ids of prompt and text, which the next step must continue. "
                "With engine=openai and vllm serve set engine.extra_body={return_token_ids: true}; otherwise use "
                "engine=transformers or engine=vllm."
            )


async def draw_steps(tree: Tree, grower: Grower, parents: Sequence[int]) -> list[int | None]:
    """Draw one step under each of ``parents``, which may contain a node several times.

    Returns:
        The new child of each parent; equal draws give the same child. ``None`` if the limits of the tree or the
        generator allow no further step. Each draw counts as a new node.
    """
    room = grower.config.max_nodes - len(tree.nodes)
    asked: Counter[int] = Counter()
    allowed: list[int] = []  # positions in `parents`
    for place, parent in enumerate(parents):
        places_left = grower.config.max_branch - len(tree.nodes[parent].children)
        if len(allowed) < room and asked[parent] < places_left and grower.may_grow(tree, parent):
            asked[parent] += 1
            allowed.append(place)
    generations = await gather(*(grower.draw(tree, parents[place]) for place in allowed))
    drawn = {
        place: generation for place, generation in zip(allowed, generations, strict=True) if generation is not None
    }
    # Equal steps are scored once, and all their tokens are counted in one node.
    first: dict[tuple[int, str], int] = {}
    for place, generation in drawn.items():
        first.setdefault((parents[place], generation.text.strip()), place)
    new = list(first.values())
    nodes: list[int | None] = [None] * len(parents)
    for places in (new, [place for place in drawn if place not in set(new)]):
        added = await gather(*(grower.attach(tree, parents[place], drawn[place]) for place in places))
        for place, node in zip(places, added, strict=True):
            nodes[place] = node
    return nodes
