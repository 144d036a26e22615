"""Parts by name, by address, and from other installed packages."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from toys import Toy, ToyConfig

import agents.registry
from reason_envs import make_environment, register, registration
from reason_envs import registry as plugins
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import ENGINES
from reason_envs.registry import Plugin, Registry, load_attribute
from reason_envs.rewards import make_reward, register_reward
from reason_envs.rewards import registry as rewards
from reason_envs.tasks import make as make_tasks
from reason_envs.tasks import registry as families
from reason_envs.validation import check_options


@dataclass
class HammerConfig:
    weight: float = 1.0


class Hammer:
    def __init__(self, config):
        self.config = config


TOOLS = Registry("tool", {})


def add_hammer():
    assert "hammer" not in TOOLS.names()  # a look-up from inside asks nobody again
    TOOLS.register("hammer", Hammer, "test_registry:HammerConfig")


def add_hammer_twice():
    for _ in range(2):
        TOOLS.register("hammer", Hammer, HammerConfig)


def add_environment():
    register("Installed-v0", Toy, ToyConfig)


def add_reward():
    register_reward("installed", lambda: lambda response, task: 1.0)


@pytest.fixture
def installed(monkeypatch):
    """Pretend that a package is installed which has this function of ours in this entry-point group."""

    def install(group, function):
        point = EntryPoint("theirs", f"{__name__}:{function}", group)
        monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
        monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == point.group else [])
        monkeypatch.setattr(plugins, "_asked", set())

    return install


def test_groups_are_the_kinds_in_the_plural():
    assert [r.group for r in (ENGINES, agents.registry.ALGORITHMS, agents.registry.POLICIES)] == [
        "reason_envs.engines",
        "reason_envs.algorithms",
        "reason_envs.policies",
    ]


def test_installed_parts_are_known_and_asked_for_once(installed, monkeypatch):
    monkeypatch.setattr(TOOLS, "_plugins", {})
    installed("reason_envs.tools", "add_hammer")
    assert TOOLS.names() == TOOLS.names() == ["hammer"]
    config = TOOLS.configure("hammer", {"weight": 2.5})
    assert TOOLS["hammer"].load()(config).config == HammerConfig(2.5)


def test_installed_environments_have_names_and_ids(installed, monkeypatch):
    monkeypatch.setattr(registration, "_ENTRIES", dict(registration._ENTRIES))
    installed("reason_envs.environments", "add_environment")
    assert registration.env_config("installed") is ToyConfig
    assert {"installed"} <= set(registration.names())
    assert "Installed-v0" in registration.ids()


def test_installed_rewards_are_made_by_name(installed, monkeypatch):
    monkeypatch.setattr(rewards, "_factories", dict(rewards._factories))
    installed("reason_envs.rewards", "add_reward")
    assert asyncio.run(make_reward("installed")("any", None, 0)).value == 1.0


@pytest.mark.parametrize("function", ["no_such_function", "no_such.function", "add_hammer_twice"])
def test_a_broken_plugin_is_named_at_every_look(installed, function, monkeypatch):
    monkeypatch.setattr(TOOLS, "_plugins", {})
    installed("reason_envs.tools", function)
    for _ in range(2):
        with pytest.raises(ReasonEnvsError, match=rf"plugin 'theirs' \(test_registry:{function}, group reason_envs"):
            TOOLS.names()


def test_what_was_registered_before_a_broken_plugin_is_not_registered_again(installed, monkeypatch):
    monkeypatch.setattr(TOOLS, "_plugins", {})
    installed("reason_envs.tools", "add_hammer")
    sound, broken = (EntryPoint(f, f"{__name__}:{f}", "reason_envs.tools") for f in ("add_hammer", "no_such"))
    monkeypatch.setattr(plugins, "entry_points", lambda group: [sound, broken])
    for _ in range(2):
        with pytest.raises(ReasonEnvsError, match="plugin 'no_such'"):
            TOOLS.names()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("toys", "'toys' is no address: write 'package.module:name'"),
        ("toys:", "is no address"),
        ("no_such_module:f", r"cannot import 'no_such_module' .*PYTHONPATH"),
        ("toys:ToyConfg", r"name in module toys 'ToyConfg'. Did you mean 'ToyConfig'"),
    ],
)
def test_wrong_addresses_are_explained(address, message):
    with pytest.raises(ReasonEnvsError, match=message):
        load_attribute(address)


def test_classes_and_addresses_are_the_same():
    by_class, by_address = (
        Plugin(Hammer, HammerConfig),
        Plugin("test_registry:Hammer", "test_registry:HammerConfig"),
    )
    assert by_class.load() is Hammer
    assert by_class.config_class() is HammerConfig
    assert by_address.load().__name__ == "Hammer"
    assert by_address.configure("hammer", {"weight": 3.0}).weight == 3.0


def test_an_unknown_option_is_named_with_near_ones():
    check_options("hammer", {"weight": 1}, ["weight"])
    with pytest.raises(ReasonEnvsError, match=r"Unknown option of hammer 'wieght'. Did you mean 'weight'"):
        Plugin(Hammer, HammerConfig).configure("hammer", {"wieght": 1})


def test_a_value_of_the_wrong_type_is_named():
    hammer = Plugin(Hammer, HammerConfig)
    assert (
        hammer.configure("hammer", {"weight": np.float32(2)}).weight == hammer.configure("hammer", {"weight": 2}).weight
    )
    with pytest.raises(
        ReasonEnvsError, match=r"weight='2' is of the wrong type: hammer takes float there, such as 1\.0"
    ) as caught:
        hammer.configure("hammer", {"weight": "2"})
    assert caught.value.__suppress_context__, "a traceback of the checker comes first"


def test_a_module_before_a_name_is_imported_and_registers_it(monkeypatch, tmp_path):
    monkeypatch.setattr(TOOLS, "_plugins", {})
    monkeypatch.setattr(registration, "_ENTRIES", dict(registration._ENTRIES))
    monkeypatch.setattr(families, "_registered", {})
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_parts.py").write_text(
        "import test_registry, toys\n"
        "from reason_envs import register, tasks\n"
        "test_registry.TOOLS.register('nail', test_registry.Hammer, test_registry.HammerConfig)\n"
        "register('Theirs-v0', toys.Toy, toys.ToyConfig)\n"
        "tasks.register('their_tasks', lambda split: tasks.ListTaskSet('theirs', split, [tasks.Task('1', 'q', 'a')]))\n"
    )
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    assert TOOLS["their_parts:nail"].load() is Hammer
    assert TOOLS.configure("their_parts:nail", {"weight": 2.0}) == HammerConfig(2.0)
    assert isinstance(make_environment("their_parts:Theirs-v0"), Toy)
    assert isinstance(make_environment("their_parts:theirs", turns=2), Toy)
    assert len(make_tasks("their_parts:their_tasks")) == 1
    with pytest.raises(ReasonEnvsError, match=r"Unknown tool 'snail'. Did you mean 'nail'"):
        TOOLS["their_parts:snail"]


def test_a_name_is_taken_once(monkeypatch):
    monkeypatch.setattr(TOOLS, "_plugins", {})
    TOOLS.register("saw", Hammer, HammerConfig)
    with pytest.raises(ReasonEnvsError, match="tool 'saw' exists already"):
        TOOLS.register("saw", Hammer, HammerConfig)
    with pytest.raises(ReasonEnvsError, match=r"Unknown tool 'saww'. Did you mean 'saw'"):
        TOOLS["saww"]
