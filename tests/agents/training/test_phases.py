"""A phase of a training step that hangs shows what its threads do."""

import threading
import time
from datetime import timedelta

from agents.config.compose import compose_config
from agents.training import phases


def wait_elsewhere(event):
    event.wait()


def test_hanging_phase_writes_the_stacks_of_all_threads(monkeypatch, capfd):
    monkeypatch.setattr(phases, "TIMEOUT", timedelta(seconds=60.1))
    event = threading.Event()
    thread = threading.Thread(target=wait_elsewhere, args=(event,))
    thread.start()
    with phases.StepClock(compose_config([]), step=0).phase(phases.UPDATING):
        time.sleep(0.5)
    event.set()
    thread.join()
    written = capfd.readouterr().err
    assert "in wait_elsewhere" in written
    assert "in test_hanging_phase_writes_the_stacks_of_all_threads" in written


def test_phase_in_time_writes_nothing(monkeypatch, capfd):
    monkeypatch.setattr(phases, "TIMEOUT", timedelta(seconds=60.3))
    with phases.StepClock(compose_config([]), step=0).phase(phases.UPDATING):
        pass
    time.sleep(0.5)
    assert capfd.readouterr().err == ""
