"""A reward function: 1 for a response that contains the answer, 0 for another one.

A function of your own module needs no registration. Registered by an entry point, as here, it has a short name::

    python -m agents.train env=single_turn_math env.reward=their_parts.reward:contains
    python -m agents.train env=single_turn_math env.reward=their_contains
"""


def contains(response, task):
    """Return the reward, and facts about the response; ``correct`` gives evaluations their accuracy."""
    correct = task.answer in response
    return float(correct), {"correct": correct}
