"""Streams and their returns."""

from agents.algorithms.sample import SampledTrajectory
from agents.trajectory import Choice, Decision, Trajectory


def decision(agent, turn, reward, *, on_path=True):
    choice = Choice([1], None, None, "stop", 0, [2], "text")
    return Decision("episode", agent, turn, choice, reward, group_id=agent, on_path=on_path)


TRAJECTORY = Trajectory(
    "task",
    "episode",
    [
        decision("solver", 0, 1.0),
        decision("tester", 0, 0.25),
        decision("solver", 1, 50.0, on_path=False),
        decision("solver", 1, 2.0),
    ],
    terminated=True,
    truncated=False,
)


def test_streams_contain_each_agents_decisions_on_the_path():
    streams = [[s.decision for s in stream] for stream in SampledTrajectory.of(TRAJECTORY).streams()]
    assert [[(d.agent, d.turn, d.reward) for d in stream] for stream in streams] == [
        [("solver", 0, 1.0), ("solver", 1, 2.0)],
        [("tester", 0, 0.25)],
    ]


def test_stream_return_sums_the_path():
    assert TRAJECTORY.stream_return("solver") == 3.0
    assert TRAJECTORY.stream_return("tester") == 0.25


def test_trajectories_are_printed_without_observations():
    """`asyncio.run` formats the result of its task when it ends."""
    seen = decision("solver", 0, 1.0)
    seen.observation = ["a large observation"]
    shown = repr(Trajectory("task", "episode", [seen], True, False, final_observations={"solver": seen.observation}))
    assert "group_id='solver'" in shown
    assert "observation" not in shown
