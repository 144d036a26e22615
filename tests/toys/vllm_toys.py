"""What the tests with vLLM share."""

import psutil

RANK = 4
"""Maximum rank of the shared engine's adapters."""


def processes():
    """Return the children of this process without the resource tracker of Python, which runs until the end."""
    children = psutil.Process().children(recursive=True)
    return {child for child in children if "multiprocessing.resource_tracker" not in " ".join(child.cmdline())}
