"""Records of held-out episodes: one schema for all environments."""

import json

import numpy as np
import pytest
import report_toys
from report_toys import ScriptedPolicy, evaluation
from toys import TurnToy

from agents.tracking.episode_records import MAX_CHARS, evaluation_record, plain, record, recorded, write_evaluation
from agents.trajectory import Choice, Decision, Trajectory
from reason_envs.tasks import Task
from reason_envs.views import CELLS, EpisodeView, NodeView, TreeView


def kept(folder, kind, step=30):
    """Return the episodes of an evaluation of a toy run."""
    run = report_toys.RUNS[kind](folder / kind)
    return json.loads(recorded(run)[step].read_text())["episodes"]


def trajectory(text="4", correct=1.0, **fields):
    choice = Choice([1, 2], None, None, "length", 0, [5], text)
    decision = Decision("0", "solver", 0, choice, 0.5, "g", observation=[{"role": "user", "content": "2 + 2?"}])
    return Trajectory("t", "0", [decision], True, False, metrics={"correct": correct}, **fields)


TASK = Task("t", "2 + 2?", "4")


def test_record_of_a_dialogue_needs_no_view():
    episode = plain(record(trajectory(facts={"extracted": "4", "task_id": "t"}), TASK))
    turn = {
        "agent": "solver",
        "prompt": [{"role": "user", "content": "2 + 2?"}],
        "response": "4",
        "reward": 0.5,
        "tokens": 2,
        "cut_off": True,
    }
    assert episode == {
        **{"task": "t", "question": "2 + 2?", "answer": "4", "correct": 1.0, "reward": 0.5, "tokens": 2},
        **{"truncated": False, "turns": [turn], "facts": {"extracted": "4"}},
    }


def test_record_of_an_environment_without_view_names_the_agents():
    class Graded(TurnToy):
        async def step(self, actions):
            result = await super().step(actions)
            result.info["correct"] = True
            return result

    _, evaluated = evaluation(Graded(), ScriptedPolicy(lambda env: "my answer"), [TASK], 0)
    (episode,) = evaluated["episodes"]
    assert [turn["agent"] for turn in episode["turns"]] == ["first", "second", "first"]
    assert all(turn["prompt"][0]["content"].startswith("turn ") for turn in episode["turns"])
    assert {turn["response"] for turn in episode["turns"]} == {"my answer"}


def test_record_of_a_tree_holds_nodes_and_visits(tmp_path):
    for episode in kept(tmp_path, "tree", 0):
        nodes, visits = episode["tree"]["nodes"], episode["tree"]["visit_history"]
        assert nodes[0]["parent"] == -1
        assert all(node["parent"] < place for place, node in enumerate(nodes))
        assert len(visits) == len(episode["turns"])
        assert visits[-1] == [episode["tree"]["current"], len(nodes)]
        assert all(0 <= at < size <= len(nodes) for at, size in visits)
        assert {"score", "value", "tokens", "log_prob", "terminal"} <= nodes[-1].keys()
        assert {turn["response"] for turn in episode["turns"]} <= {"EXPAND", "BRANCH", "BACKTRACK", "TERMINATE"}


@pytest.mark.parametrize("kind", ["sokoban", "plan_path", "sudoku"])
def test_record_of_a_game_holds_every_grid(tmp_path, kind):
    for episode in [*kept(tmp_path, kind, 0), *report_kept(tmp_path, kind)]:
        pictures = [episode["grid"], *(turn["grid"] for turn in episode["turns"] if "grid" in turn)]
        sizes = {(len(picture["cells"]), len(picture["cells"][0])) for picture in pictures}
        assert len(sizes) == 1
        assert set("".join("".join(picture["cells"]) for picture in pictures)) <= set(CELLS)
        assert all(turn["outcome"] for turn in episode["turns"])
        assert all("grid" not in turn for turn in episode["turns"] if turn["agent"] == "tool")  # it acts on a copy
        if kind == "sudoku":
            assert pictures[0]["box"] == [2, 2]
            assert all(len(picture["texts"]) == 4 for picture in pictures)
        if episode["correct"]:
            last = "".join(pictures[-1]["cells"])
            assert {"sokoban": "B", "plan_path": "G", "sudoku": "."}[kind] not in last
            assert {"sokoban": "X", "plan_path": "*", "sudoku": "r"}[kind] in last


def report_kept(folder, kind):
    return json.loads(recorded(folder / kind)[30].read_text())["episodes"]


def test_grid_distinguishes_wrong_and_right_digits(tmp_path):
    letters = "".join(
        "".join(turn["grid"]["cells"])
        for episode in kept(tmp_path, "sudoku", 0)
        for turn in episode["turns"]
        if "grid" in turn
    )
    assert {"c", "r", "w", "."} <= set(letters)


def test_record_of_a_workflow_holds_calls_and_repaired_program(tmp_path):
    first = kept(tmp_path, "workflow")[0]
    assert [call["name"] for call in first["calls"]] == ["Custom", "Revise"]
    assert first["calls"][0]["inputs"] == {"input": "What is 20 + 7?", "instruction": "Think."}
    assert "27" in first["calls"][0]["outputs"]["response"]
    assert "program" not in first
    broken = report_toys.workflow_toys.SIMPLE.replace("        self.custom = operator.Custom(self.llm)\n", "")
    environment = report_toys.workflow_toys.make_env()
    tasks = [report_toys.workflow_toys.MATH]
    _, evaluated = evaluation(environment, ScriptedPolicy(lambda env: broken), tasks, 0)
    (episode,) = evaluated["episodes"]
    assert "operator.Custom" in episode["program"]
    assert "repaired: initialisation of custom" in episode["turns"][0]["outcome"]


def test_record_of_a_planner_holds_the_calls_of_the_solver(tmp_path):
    first = kept(tmp_path, "planner")[0]
    (call,) = first["calls"]
    assert call["name"] == "solver"
    assert "Add them up." in call["inputs"]["prompt"]
    assert call["outputs"] == {"response": r"It is \boxed{7}."}


def test_evaluation_record_holds_all_grades_and_some_episodes():
    tasks = [Task(f"t{i}", "?", "4") for i in range(5)]
    trajectories = [trajectory(correct=float(i % 2)) for i in range(10)]
    found = evaluation_record(7, trajectories, tasks, samples=2, max_episodes=3)
    assert found["step"] == 7
    assert found["correct"] == [0.5] * 5
    assert [episode["task"] for episode in found["episodes"]] == ["t0", "t1", "t2"]
    assert evaluation_record(7, trajectories, tasks, samples=2, max_episodes=0)["episodes"] == []


def test_evaluation_record_leaves_failed_episodes_out_of_the_grades():
    played = [Trajectory("t", "e", [], True, False, {"correct": c}, failure=f) for c, f in ((1.0, ""), (0.0, "down"))]
    assert evaluation_record(1, played, [Task("t", "q", "a")], samples=2, max_episodes=0)["correct"] == [1.0]


def test_record_with_nan_surrogates_and_long_texts_can_be_read_back(tmp_path):
    tree = TreeView([NodeView(-1, "?", float("nan"), np.float32(0.5), 0.0, 0, False)], 0, [(0, 1)])
    view = report_toys.tree_toys.make_tree().view()
    assert view is None  # before the first episode
    text = "x" * (MAX_CHARS + 1) + "\ud800"
    episode = plain(record(trajectory(text, facts={"reason": "a\ud800b"}), TASK))
    write_evaluation(tmp_path, {"step": 3, "correct": [1.0], "episodes": [episode]})
    write_evaluation(tmp_path, {"step": 20, "correct": [1.0], "episodes": []})
    (tmp_path / "validate" / "step_last.json").write_text("{}")  # another file of the user
    assert list(recorded(tmp_path)) == [3, 20]
    read = json.loads(recorded(tmp_path)[3].read_text(encoding="utf-8"))["episodes"][0]
    assert read["facts"] == {"reason": "a?b"}
    assert read["turns"][0]["response"] == "x" * MAX_CHARS + "… (20,002 characters)"
    (node,) = plain(record(trajectory(view=EpisodeView(tree)), TASK))["tree"]["nodes"]
    assert node == {"parent": -1, "text": "?", "value": 0.5, "log_prob": 0.0, "tokens": 0, "terminal": False}
