"""Parts by name, by import path, as a mapping, as an object, and from other installed packages."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from scripted_engine import ScriptedEngine
from toys import Toy, ToyConfig

import agents.registry
from agents.config.compose import compose_config
from agents.training.build import build
from agents.training.resolve import resolve
from reason_envs import make_environment, register, registration
from reason_envs import registry as plugins
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.llm import ENGINES, make_engine
from reason_envs.registry import Part, Registry, load_attribute
from reason_envs.reward_models import REWARD_MODELS
from reason_envs.rewards import REWARDS, make_reward, register_reward
from reason_envs.sandbox import SANDBOXES, make_sandbox
from reason_envs.tasks import ListTaskSet, Task
from reason_envs.tasks import make as make_tasks
from reason_envs.tasks.registry import TASKS
from reason_envs.validation import mounted


@dataclass
class HammerConfig:
    weight: float = 1.0


class Hammer:
    def __init__(self, config, owner="nobody"):
        self.config, self.owner = config, owner


def wrench(size: int, *, grip: str = "soft") -> dict:
    return {"size": size, "grip": grip}


TOOLS = Registry("tool", "reason_envs.tools", {}, Hammer, keywords=["owner"])


def add_hammer():
    assert "hammer" not in TOOLS.names()  # a look-up while plugins register does not load them again
    TOOLS.register("hammer", Hammer, "test_registry:HammerConfig")


def add_two_hammers():
    TOOLS.register("hammer", Hammer, HammerConfig)
    TOOLS.register("hammer", HammerConfig)


def add_environment():
    register("Installed-v0", Toy, ToyConfig)


def add_reward():
    register_reward("installed", lambda response, task: 1.0)


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    """Forget after a test what it registers."""
    for registry in (TOOLS, registration.ENVIRONMENTS, TASKS, REWARDS):
        monkeypatch.setattr(registry, "parts", dict(registry.parts))
    monkeypatch.setitem(sys.modules, "test_registry", sys.modules[__name__])


@pytest.fixture
def hammer():
    TOOLS.register("hammer", Hammer, HammerConfig)


@pytest.fixture
def installed(monkeypatch):
    """Pretend that an installed package has a function of this module in an entry-point group."""

    def install(group, function):
        point = EntryPoint("theirs", f"{__name__}:{function}", group)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == point.group else [])
        monkeypatch.setattr(plugins, "_loaded", set())

    return install


def test_groups_are_named_after_the_kinds():
    registries = (ENGINES, SANDBOXES, REWARD_MODELS, REWARDS, TASKS, registration.ENVIRONMENTS)
    assert [registry.group.removeprefix("reason_envs.") for registry in registries] == [
        *("engines", "sandboxes", "reward_models", "rewards", "tasks", "environments")
    ]
    assert agents.registry.ALGORITHMS.group == "reason_envs.algorithms"
    assert agents.registry.POLICIES.group == "reason_envs.policies"


@pytest.mark.parametrize("spec", ["hammer", "test_registry:hammer", {"name": "hammer"}])
def test_make_takes_a_name_an_import_path_or_a_mapping(hammer, spec):
    assert TOOLS.make(spec, weight=2.0).config == HammerConfig(2.0)
    assert TOOLS.make(spec, owner="me").owner == "me"


def test_make_merges_the_options_of_a_mapping(hammer):
    assert TOOLS.make({"name": "hammer", "weight": 2}).config.weight == 2
    assert TOOLS.make({"name": "hammer", "weight": 2}, weight=3).config.weight == 3


def test_make_returns_an_object_as_it_is():
    tool = Hammer(HammerConfig())
    assert TOOLS.make(tool) is tool
    with pytest.raises(ReasonEnvsError, match="weight: the tool is an object already, and takes no options"):
        TOOLS.make(tool, weight=2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (3, r"3 \(int\) does not choose the tool: give a name, .* or an instance of Hammer"),
        ({"weight": 2}, r"The mapping for the tool needs the key 'name', .* It has \['weight'\]"),
        ("hamer", "Unknown tool 'hamer'. Did you mean 'hammer'"),
    ],
)
def test_make_explains_wrong_specifications(hammer, spec, message):
    with pytest.raises(ReasonEnvsError, match=message):
        TOOLS.make(spec)


def test_without_a_configuration_the_keyword_parameters_are_the_options():
    TOOLS.register("wrench", wrench)
    assert TOOLS.make("wrench", size=3) == {"size": 3, "grip": "soft"}
    assert TOOLS.make("wrench", 4, grip="hard") == {"size": 4, "grip": "hard"}
    assert TOOLS.make("test_registry:wrench", size=3)["size"] == 3
    with pytest.raises(OptionError, match=r"^size must be given: tool 'wrench' has no default for it"):
        TOOLS.make("wrench")
    with pytest.raises(OptionError, match=r"size=4 is not an option of tool 'wrench'\. Valid: grip"):
        TOOLS.make("wrench", 5, size=4)
    with pytest.raises(OptionError, match=r"grip=1 must be of type str, such as 'soft' \(tool 'wrench'\)"):
        TOOLS.make("wrench", size=3, grip=1)
    with pytest.raises(ReasonEnvsError, match="has no configuration: register it with the dataclass of its options"):
        TOOLS["wrench"].config_class()


def test_option_errors_get_the_prefix_of_their_place(hammer):
    with pytest.raises(OptionError, match=r"^env\.tool\.weight='2' must be of type float, such as 1\.0"):  # noqa: SIM117
        with mounted("env"), mounted("tool"):
            TOOLS.make("hammer", weight="2")


def test_unknown_options_are_named_with_near_ones(hammer):
    with pytest.raises(OptionError, match=r"wieght=1 is not an option of tool 'hammer'\. Did you mean 'weight'"):
        TOOLS.make("hammer", wieght=1)


def test_numpy_numbers_count_as_python_numbers_and_lists_as_tuples(hammer):
    assert TOOLS.make("hammer", weight=np.float32(2)).config.weight == 2
    assert make_reward("math", fallbacks=["####"]).fallbacks == ("####",)
    with pytest.raises(OptionError, match=r"fallbacks=\[3\] must be of type tuple"):
        make_reward("math", fallbacks=[3])


def test_errors_of_types_show_no_traceback_of_the_type_checker(hammer):
    with pytest.raises(OptionError) as caught:
        TOOLS.make("hammer", weight="2")
    assert caught.value.__suppress_context__


def test_mappings_choose_every_kind_of_part():
    assert len(make_tasks({"name": "chain_sum", "size": 4})) == 4
    assert make_sandbox({"name": "monty", "workers": 1}).workers == 1
    assert REWARD_MODELS.make({"name": "random", "seed": 3}).config.seed == 3
    assert make_reward({"name": "math", "correct": 2.0}).correct == 2.0
    assert make_environment({"name": "single_turn_math", "split": "test"}).config.split == "test"
    with pytest.raises(OptionError, match="max_batch_size"):
        make_engine({"name": "transformers", "max_batch_size": "many"})
    assert agents.registry.POLICIES.make({"name": "language", "device": "cpu"}, seed=3).config.device == "cpu"


@pytest.mark.parametrize("name", ["workflow", "petting_code", "petting_math"])
def test_environments_take_a_mapping_for_their_sandbox(name):
    config = compose_config([f"env={name}", "env.sandbox={name: native, workers: 1}"])
    make_environment(name, sandbox=config.env.sandbox).close()


@pytest.mark.parametrize(
    ("environment", "options", "field"),
    [
        ("planner_solver", {"solver": {"name": "transformers", "max_batch_size": 0}}, "solver.max_batch_size"),
        ("planner_solver", {"reward": {"right": 1}}, "reward.right"),
        ("single_turn_math", {"tasks": {"name": "chain_sum", "terms": 3}}, "tasks.terms"),
        ("single_turn_math", {"reward": {"name": "code", "sandbox": {"name": "http", "x": 1}}}, "reward.sandbox.x"),
        (
            "single_turn_math",
            {"tasks": {"name": "mixture", "parts": {"gcd": {"ratio": 1, "x": 1}}}},
            "tasks.parts.gcd.x",
        ),
        ("workflow", {"sandbox": {"name": "native", "worker": 1}}, "sandbox.worker"),
        ("workflow", {"executors": {"Test": {"name": "openai", "modle": "m"}}}, "executors.Test.modle"),
        ("petting_code", {"sandbox": {"name": "native", "worker": 1}}, "sandbox.worker"),
        (
            "reason_tree",
            {"engine": {"name": "recorded", "path": "r", "live": {"name": "openai", "x": 1}}},
            "engine.live",
        ),
        ("reason_tree", {"engine": ScriptedEngine(""), "reward_model": {"name": "random", "x": 1}}, "reward_model.x"),
    ],
)
def test_environments_name_the_option_of_their_parts(environment, options, field):
    with pytest.raises(OptionError) as caught:
        make_environment(environment, **options)
    assert caught.value.field.startswith(field)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.solver={name: transformers, max_batch_size: 0}", r"^env\.solver\.max_batch_size=0 must be at least 1"),
        ("env.tasks={name: chain_sum, terms: 3}", r"^env\.tasks\.terms=3 is not an option of task family 'chain_sum'"),
    ],
)
def test_runs_name_the_option_of_their_parts(override, message, tmp_path):
    config = compose_config(["env=planner_solver", f"output_dir={tmp_path}", override])
    with pytest.raises(OptionError, match=message):
        build(resolve(config))


def test_plugins_are_loaded_once(installed):
    installed("reason_envs.tools", "add_hammer")
    assert TOOLS.names() == TOOLS.names() == ["hammer"]
    assert TOOLS.make("hammer", weight=2.5).config == HammerConfig(2.5)


def test_plugins_add_environments_with_names_and_ids(installed):
    installed("reason_envs.environments", "add_environment")
    assert registration.env_config("installed") is ToyConfig
    assert "installed" in registration.ENVIRONMENTS.names()
    assert "Installed-v0" in registration.ids()


def test_plugins_add_rewards(installed):
    installed("reason_envs.rewards", "add_reward")
    assert asyncio.run(make_reward("installed")("any", None, 0)).value == 1.0


@pytest.mark.parametrize("function", ["no_such_function", "no_such.function", "add_two_hammers"])
def test_a_broken_plugin_is_named_at_every_look_up(installed, function):
    installed("reason_envs.tools", function)
    for _ in range(2):
        with pytest.raises(ReasonEnvsError, match=rf"plugin 'theirs' \(test_registry:{function}, group reason_envs"):
            TOOLS.names()


def test_a_broken_plugin_does_not_register_others_again(installed, monkeypatch):
    installed("reason_envs.tools", "add_hammer")
    sound, broken = (EntryPoint(f, f"{__name__}:{f}", "reason_envs.tools") for f in ("add_hammer", "no_such"))
    monkeypatch.setattr(plugins, "entry_points", lambda group: [sound, broken])
    for _ in range(2):
        with pytest.raises(ReasonEnvsError, match="plugin 'no_such'"):
            TOOLS.names()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("toys", "Invalid import path 'toys'; expected 'package.module:name'"),
        ("toys:", "Invalid import path"),
        ("no_such_module:f", r"cannot import 'no_such_module' .*PYTHONPATH"),
        ("toys:ToyConfg", r"name in module toys 'ToyConfg'. Did you mean 'ToyConfig'"),
    ],
)
def test_wrong_import_paths_are_explained(path, message):
    with pytest.raises(ReasonEnvsError, match=message):
        load_attribute(path)


def test_classes_and_import_paths_are_the_same():
    by_class, by_path = (
        Part(Hammer, HammerConfig),
        Part("test_registry:Hammer", "test_registry:HammerConfig"),
    )
    assert by_class.load() is by_path.load() is Hammer
    assert by_class.config_class() is by_path.config_class() is HammerConfig
    assert by_path.configure("hammer", {"weight": 3.0}).weight == 3.0


def test_a_module_before_a_name_is_imported_and_registers_it(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_parts.py").write_text(
        "import test_registry, toys\n"
        "from reason_envs import register, tasks\n"
        "test_registry.TOOLS.register('nail', test_registry.Hammer, test_registry.HammerConfig)\n"
        "register('Theirs-v0', toys.Toy, toys.ToyConfig)\n"
        "class Unregistered: ...\n"
        "tasks.register('their_tasks', lambda split: tasks.ListTaskSet('theirs', split, [tasks.Task('1', 'q', 'a')]))\n"
    )
    assert TOOLS["own_parts:nail"].load() is Hammer
    assert TOOLS.configure("own_parts:nail", {"weight": 2.0}) == HammerConfig(2.0)
    assert isinstance(make_environment("own_parts:Theirs-v0"), Toy)
    assert isinstance(make_environment("own_parts:theirs", turns=2), Toy)
    assert len(make_tasks("own_parts:their_tasks")) == 1
    with pytest.raises(ReasonEnvsError, match=r"Unknown tool 'snail'. Did you mean 'nail'"):
        TOOLS["own_parts:snail"]
    with pytest.raises(ReasonEnvsError, match="is not registered as an environment: call"):
        make_environment("own_parts:Unregistered")


def test_register_refuses_a_name_that_another_class_has():
    TOOLS.register("saw", Hammer, HammerConfig)
    with pytest.raises(ReasonEnvsError, match="tool 'saw' is registered already"):
        TOOLS.register("saw", HammerConfig)


def test_register_replaces_a_class_that_a_notebook_defines_again():
    TOOLS.register("axe", Hammer, HammerConfig)
    again = type("Hammer", (Hammer,), {"__module__": __name__})
    TOOLS.register("axe", again, HammerConfig)
    assert TOOLS["axe"].target is again


def test_task_families_may_be_functions_that_nobody_registered():
    assert len(make_tasks({"name": "test_registry:three", "more": 1})) == 4


def three(split, more: int = 0):
    return ListTaskSet("three", split, [Task(str(i), "q", "a") for i in range(3 + more)])
