"""Transcripts of episodes."""

from agents.tracking.transcript import MAX_MESSAGE_CHARS, as_text
from agents.trajectory import Choice, Decision, Trajectory


def decision(agent, read, text, reward=0.5):
    choice = Choice([1, 2], None, None, "stop", 0, [5], text)
    messages = [{"role": role, "content": content} for role, content in read]
    return Decision("0", agent, 0, choice, reward, "g", observation=messages)


def lines(*decisions, **fields):
    return as_text(Trajectory("t", "0", list(decisions), True, False, **fields)).splitlines()


def test_transcript_of_a_dialogue_shows_prompt_and_response():
    assert lines(
        decision("solver", [("system", "Add."), ("user", "2 + 2?\nSay it.")], "4"), metrics={"correct": 1.0}
    ) == [
        *("solver reads", "  system:", "    Add.", "  user:", "    2 + 2?", "    Say it."),
        *("solver writes (+0.50)", "  4", "correct, return +0.50, 2 tokens"),
    ]


def test_transcript_shows_only_the_new_part_of_a_prompt():
    first = decision("player", [("system", "Guess."), ("user", "1 to 9.")], "")
    second = decision("player", [("system", "Guess."), ("user", "1 to 9.\n4 is too low.")], "5")
    third = decision("player", [*(("system", "Guess."), ("user", "1 to 9.\n4 is too low."))], "6")
    assert lines(first, second, third)[5:] == [
        *("player writes (+0.50)", "  (empty)", "player reads", "  user:", "    …", "    4 is too low."),
        *("player writes (+0.50)", "  5", "player writes (+0.50)", "  6", "return +1.50, 6 tokens"),
    ]


def test_transcript_of_a_rendered_episode_shows_each_first_prompt():
    turns = [decision(agent, [("user", f"{agent} {turn}")], "x") for turn in (1, 2) for agent in ("tool", "planner")]
    assert lines(*turns, rendered="..P", metrics={"correct": 0.25}) == [
        *("tool reads", "  user:", "    tool 1", "planner reads", "  user:", "    planner 1"),
        *("..P", "25% correct, return +2.00, 8 tokens"),
    ]


def test_transcript_of_a_policy_without_text_shows_its_actions():
    choice = Choice([1], None, None, "stop", 0, [], "EXPAND")
    arrays = Decision("0", "policy", 0, choice, -0.1, "g", observation={"nodes": [1.0]})
    trajectory = Trajectory("t", "0", [arrays], False, True, metrics={"correct": 0.0})
    result = "wrong, return -0.10, 0 tokens, truncated by a limit"
    assert as_text(trajectory) == f"policy writes (-0.10)\n  EXPAND\n{result}"


def test_transcript_of_a_failed_episode_names_the_failure():
    failed = Trajectory("t", "e", [], False, True, {"correct": 0.0}, failure="no server")
    assert as_text(failed) == "left out, because an engine failed: no server"


def test_transcript_cuts_long_prompts():
    prompt = "begin" + "x" * 5000 + "end"
    text = as_text(Trajectory("t", "0", [decision("solver", [("user", prompt)], "4")], True, False))
    assert len(text) < MAX_MESSAGE_CHARS + 150
    assert "beginx" in text
    assert "[… 4,408 characters …]" in text
    assert "xend" in text
