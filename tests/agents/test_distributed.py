"""Several processes: what a process says that waits for others, and random generators."""

import pytest
import torch
import torch.distributed as dist

from agents import distributed
from agents.config.compose import compose_config
from agents.distributed import LostProcessError
from agents.policies.seeding import seeded
from agents.training.phases import UPDATING, StepClock


@pytest.fixture
def second_of_two(monkeypatch):
    """Let this be the second process of two, whose first one has ended."""

    def fail(*_):
        raise RuntimeError("Connection closed by peer [127.0.0.1]:1234\nmore")

    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(dist, "all_gather_object", fail)
    monkeypatch.setattr(dist, "all_reduce", fail)


def test_a_process_that_waits_in_vain_names_its_rank_and_the_step(second_of_two):
    clock = StepClock(compose_config([]), step=7)
    expected = pytest.raises(LostProcessError, match=r"^Step 7, updating: The process of rank 1 .*\(Connection closed")
    with expected, clock.phase(UPDATING):
        distributed.all_gather(0)
    with pytest.raises(LostProcessError, match="rank 1 waited for the other 1"):
        distributed.sum_gradients([torch.nn.Parameter(torch.ones(1))])


def test_process_group_has_a_timeout(monkeypatch):
    started = {}
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: started.update(options, backend=backend))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for is_available, backend in ((False, "gloo"), (True, "cpu:gloo,cuda:nccl")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_available=is_available: is_available)
        monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
        monkeypatch.setenv("LOCAL_RANK", "0")
        distributed.start()
        assert started == {"backend": backend, "timeout": distributed.TIMEOUT}


def test_seeded_restores_the_generator():
    before = torch.get_rng_state()
    draws = []
    for seed in (1, 1, 2):
        with seeded(seed, torch.device("cpu")):
            draws.append(float(torch.rand(1)))
    assert draws[0] == draws[1] != draws[2]
    assert torch.equal(torch.get_rng_state(), before)
