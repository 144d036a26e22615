"""An episode as text: a person sees what the model saw, without a flood."""

from agents.tracking.transcript import MOST_READ, as_text
from agents.trajectory import Choice, Decision, Trajectory


def decision(agent, read, text, reward=0.5):
    choice = Choice([1, 2], None, None, "stop", 0, [5], text)
    messages = [{"role": role, "content": content} for role, content in read]
    return Decision("0", agent, 0, choice, reward, "g", observation=messages)


def told(*decisions, **fields):
    return as_text(Trajectory("t", "0", list(decisions), True, False, **fields)).splitlines()


def test_a_dialogue_tells_what_was_read_and_written():
    assert told(
        decision("solver", [("system", "Add."), ("user", "2 + 2?\nSay it.")], "4"), metrics={"correct": 1.0}
    ) == [
        *("solver reads", "  system:", "    Add.", "  user:", "    2 + 2?", "    Say it."),
        *("solver writes (+0.50)", "  4", "right, return +0.50, 2 tokens"),
    ]


def test_later_turns_tell_only_what_is_new():
    first = decision("player", [("system", "Guess."), ("user", "1 to 9.")], "")
    second = decision("player", [("system", "Guess."), ("user", "1 to 9.\n4 is too low.")], "5")
    third = decision("player", [*(("system", "Guess."), ("user", "1 to 9.\n4 is too low."))], "6")
    assert told(first, second, third)[5:] == [
        *("player writes (+0.50)", "  (nothing)", "player reads", "  user:", "    …", "    4 is too low."),
        *("player writes (+0.50)", "  5", "player writes (+0.50)", "  6", "return +1.50, 6 tokens"),
    ]


def test_a_rendered_episode_follows_what_each_agent_read_first():
    turns = [decision(agent, [("user", f"{agent} {turn}")], "x") for turn in (1, 2) for agent in ("tool", "planner")]
    assert told(*turns, rendered="..P", metrics={"correct": 0.25}) == [
        *("tool reads", "  user:", "    tool 1", "planner reads", "  user:", "    planner 1"),
        *("..P", "25% right, return +2.00, 8 tokens"),
    ]


def test_what_reads_no_text_is_told_by_its_choices():
    choice = Choice([1], None, None, "stop", 0, [], "EXPAND")
    arrays = Decision("0", "policy", 0, choice, -0.1, "g", observation={"nodes": [1.0]})
    trajectory = Trajectory("t", "0", [arrays], False, True, metrics={"correct": 0.0})
    assert as_text(trajectory) == "policy writes (-0.10)\n  EXPAND\nwrong, return -0.10, 0 tokens, cut off by a limit"


def test_long_prompts_do_not_flood():
    prompt = "begin" + "x" * 5000 + "end"
    text = as_text(Trajectory("t", "0", [decision("solver", [("user", prompt)], "4")], True, False))
    assert len(text) < MOST_READ + 150
    assert "beginx" in text
    assert "[… 4,408 characters …]" in text
    assert "xend" in text
