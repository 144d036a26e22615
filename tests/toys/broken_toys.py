"""Valid environments for the checker, and environments that break one rule each."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field, replace
from datetime import date

from gymnasium.spaces import Discrete
from toys import CountingEngine

from reason_envs.core import Environment, StepResult
from reason_envs.spaces import UnicodeText
from reason_envs.tasks import ListTaskSet, Task

ENGINE = CountingEngine()
TASKS = ListTaskSet("toys", "train", [Task(f"toy/{i}", f"Say {i}.", str(i)) for i in range(3)])


@dataclass
class Config:
    tasks: object = TASKS
    split: str = "train"


@dataclass
class State:
    seed: int
    task: Task
    answers: list[int] = field(default_factory=list)


class Sound(Environment):
    """Three turns, each with a number that the engine draws. Naming the number is correct."""

    agents = ("player",)

    def __init__(self):
        self.config, self.tasks, self.engine = Config(), TASKS, ENGINE
        self.seen, self.said = UnicodeText(500), UnicodeText(100)

    def observation_space(self, agent):
        return self.seen

    def action_space(self, agent):
        return self.said

    def acting(self):
        return (self.agents[len(self.state.answers) % len(self.agents)],)

    def observe(self, agent):
        return f"{self.state.task.question} {self.state.answers}"

    def info(self, **more):
        return {"task_id": self.state.task.id, **more}

    async def reset(self, *, seed=None, options=None):
        seed = self.episode_seed(seed)
        self.state = State(seed, (options or {}).get("task") or self.tasks.sample(seed))
        return StepResult({a: self.observe(a) for a in self.acting()}, info=self.info())

    async def ask(self, text):
        return await self.engine.ask((self.state.seed, len(self.state.answers), text))

    def read(self, action):
        return action if isinstance(action, str) and len(action) <= 100 else None

    def pay(self, text):
        return float(text == str(self.state.answers[-1]))

    async def step(self, actions):
        texts = {agent: self.read(actions[agent]) for agent in self.acting()}
        acted = tuple(texts)
        self.state.answers.append(await self.ask("".join(map(str, texts.values()))))
        rewards = {agent: self.pay(texts[agent]) for agent in acted}
        info = self.info(valid_action=None not in texts.values())
        if len(self.state.answers) < 3:
            return StepResult({a: self.observe(a) for a in self.acting()}, rewards, info=info)
        over, not_cut = dict.fromkeys(self.agents, True), dict.fromkeys(self.agents, False)
        return StepResult({}, rewards, over, not_cut, info=info)

    def render_messages(self, observation):
        return [{"role": "user", "content": observation}]

    def parse_action(self, text):
        return text.strip()


class SoundTeam(Sound):
    agents = ("left", "right")


class SoundTogether(SoundTeam):
    def acting(self):
        return self.agents


class SoundChoice(Sound):
    """The same game with three discrete actions."""

    def __init__(self):
        super().__init__()
        self.said = Discrete(3)

    def read(self, action):
        return str(action) if self.said.contains(action) else None

    def parse_action(self, text):
        return int(text) if text in ("0", "1", "2") else -1


SOUND = (Sound, SoundTeam, SoundTogether, SoundChoice)
BROKEN = []
"""Environments with the check that they fail, and its message."""


def fails(check, message):
    def note(broken):
        BROKEN.append((broken, check, message))
        return broken

    return note


@fails("construction", "no engine here")
class Unbuildable(Sound):
    def __init__(self):
        raise RuntimeError("no engine here")


@fails("play", "KeyError: 'no such level' .*broken_toys.py, line")
class Unstartable(Sound):
    async def reset(self, **options):
        raise KeyError("no such level")


@fails("play", r"Forgetful\.step must return a StepResult; it returned None \(NoneType\)")
class Forgetful(Sound):
    async def step(self, actions):
        await super().step(actions)


@fails("play", r"LikeGymnasium\.reset must return a StepResult; it returned \('Say .* \(tuple\)")
class LikeGymnasium(Sound):
    async def reset(self, **options):
        result = await super().reset(**options)
        return result.observations["player"], result.info


@fails("play", r"PaysNobodyInParticular\.step must return a dict as rewards; it returned 0\.0 \(float\)")
class PaysNobodyInParticular(Sound):
    async def step(self, actions):
        return replace(await super().step(actions), rewards=0.0)


@fails("play", r"PaysNothing\.step must return numbers as rewards; it returned None \(NoneType\) for 'player'")
class PaysNothing(Sound):
    def pay(self, text):
        return None


@fails("play", r"Synchronous\.step is not a coroutine function: it returned StepResult\(")
class Synchronous(Sound):
    def step(self, actions):
        return StepResult({})


@fails("play", r"changed the task: \['metadata'\]\['hints'\]: \['a', 'b', 'c'\] and \[\] \(before and after\)")
class EatsItsTask(Sound):
    def __init__(self):
        super().__init__()
        self.tasks = ListTaskSet("hints", "train", [Task("one", "Say 1.", "1", {"hints": ["a", "b", "c"]})])

    async def step(self, actions):
        self.state.task.metadata["hints"].pop(0)
        return await super().step(actions)


@fails("spaces", "returns a new object at every call")
class NewSpaces(Sound):
    def action_space(self, agent):
        return UnicodeText(100)


@fails("spaces", "not in its observation space")
class NoText(Sound):
    def observe(self, agent):
        return 7

    def render_messages(self, observation):
        return [{"role": "user", "content": "?"}]


@fails("determinism", r"in two environments: results differ at step 1: info\['luck'\]")
class Lucky(Sound):
    def info(self, **more):
        return super().info(luck=random.random(), **more) if more else super().info()


@fails("determinism", "before and after another episode")
class Remembering(Sound):
    games = 0

    async def reset(self, **options):
        result = await super().reset(**options)
        self.games += 1
        result.info["games"] = self.games
        return result


@fails("clocks", r"info\['when'\]\['at'\] = .* is a time")
class Clocked(Sound):
    def info(self, **more):
        return super().info(when={"at": time.time() // 3600 * 3600}, **more)


@fails("clocks", r"info\['day'\]")
class Dated(Sound):
    def info(self, **more):
        return super().info(day=date(2020, 1, 1), **more)


@fails("rewards", "reward of 'player' at step 1, nan, is not a finite number")
class Unpayable(Sound):
    def pay(self, text):
        return float("nan")


@fails("rewards", "contain 'somebody', which is not one of the agents")
class PaysStrangers(Sound):
    async def step(self, actions):
        result = await super().step(actions)
        result.rewards["somebody"] = 1.0
        return result


@fails("rewards", "reset returns the reward 1.0 for 'player'")
class PaysAtOnce(Sound):
    async def reset(self, **options):
        result = await super().reset(**options)
        result.rewards["player"] = 1.0
        return result


@fails("rewards", r"\['player'\] acted in an episode of 3 steps that never returned a reward")
class Unpaid(Sound):
    async def step(self, actions):
        return replace(await super().step(actions), rewards={})


@fails("rewards", r"\['right'\] acted in an episode of 3 steps")
class PaysOneOfTwo(SoundTogether):
    async def step(self, actions):
        result = await super().step(actions)
        return replace(result, rewards={"left": result.rewards["left"]})


@fails("ends", r"no agent acts any more, but \['player'\] is neither")
class NeverOver(Sound):
    async def step(self, actions):
        result = await super().step(actions)
        return StepResult(result.observations, result.rewards, info=result.info)


@fails("ends", r"\['player'\] must act next although the episode has ended")
class OverAndOn(Sound):
    async def step(self, actions):
        result = await super().step(actions)
        result.terminated["player"] = True
        return result


@fails("wrong actions", "AttributeError: 'NoneType' object has no attribute 'strip'")
class Trusting(Sound):
    def read(self, action):
        return super().read(action.strip())


@fails("wrong actions", r"The action None is invalid, but info\['valid_action'\] is True")
class Lenient(Sound):
    def info(self, **more):
        return super().info(**dict.fromkeys(more, True))


@fails("turns", "An action out of turn changed the episode at step 1: observations")
class Interruptible(SoundTeam):
    async def ask(self, text):
        return await super().ask(self.heard)

    async def step(self, actions):
        self.heard = str(sorted(actions.items()))
        return await super().step(actions)


@fails("tasks", r"with the task 'toy/0' returned info\['task_id'\] = 'toy/")
class Stubborn(Sound):
    async def reset(self, *, seed=None, options=None):
        return await super().reset(seed=seed)


@fails("messages", "must return a list of messages; it returned 'Say ")
class PlainText(Sound):
    def render_messages(self, observation):
        return observation


@fails("round trip", "converts '0', the name of action 0, to 1")
class OffByOne(SoundChoice):
    def parse_action(self, text):
        return int(text) + 1 if text in ("0", "1") else -1


@fails("round trip", "converts '42' to 'player: 42', and this text to 'player: player: 42'")
class Growing(Sound):
    def parse_action(self, text):
        return f"player: {text}"[:100]


@fails("garbage", "ValueError: invalid literal for int")
class Strict(SoundChoice):
    def parse_action(self, text):
        return int(text)


@fails("fork isolation", "After a fork at step 0 other actions of the fork changed the original")
class SharedNotes(Sound):
    def __init__(self):
        super().__init__()
        self.notes = []

    async def reset(self, **options):
        self.notes.clear()
        return await super().reset(**options)

    async def ask(self, text):
        self.notes.append(text)
        return len(self.notes)


@fails("fork isolation", "TypeError: cannot pickle")
class Uncopyable(Sound):
    async def reset(self, **options):
        result = await super().reset(**options)
        self.state.stream = (i for i in range(3))
        return result


@fails("fork re-keying", "forks with seed=1, 1 and 2 have")
class DeafToSeeds(Sound):
    def fork(self, seed=None):
        return super().fork()


@fails("batching", "One environment makes 3 calls; 4 environments, stepped together, make 12")
class OwnEngine(Sound):
    def fork(self, seed=None):
        clone = super().fork(seed)
        clone.engine = CountingEngine()
        return clone


@fails("batching", "did not end within 0.3 s")
class Queueing(Sound):
    def __init__(self):
        super().__init__()
        self.lock = asyncio.Lock()

    async def ask(self, text):
        async with self.lock:
            return await super().ask(text)


@fails("gymnasium", "Deterministic step observations are not equivalent for the same seed and action")
class SeedBlind(Sound):
    async def reset(self, *, seed=None, options=None):
        return await super().reset(seed=random.getrandbits(30), options=options)


@fails("pettingzoo parallel", "RuntimeError: it is not your turn")
@fails("pettingzoo aec", "RuntimeError: it is not your turn")
class Blindfolding(SoundTeam):
    def observe(self, agent):
        if agent not in self.acting():
            raise RuntimeError("it is not your turn")
        return super().observe(agent)
