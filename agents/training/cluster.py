"""Engines, learners and sandboxes in processes that Ray places on one computer or several: the only use of Ray."""

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from agents.config.cluster import ClusterConfig
from agents.config.schema import TrainConfig, options, typed
from agents.distributed import LostProcessError
from agents.training.folder import plain_config
from reason_envs.errors import OptionError, RunError, first_line
from reason_envs.llm import ENGINES, make_engine
from reason_envs.llm.engine import Engine
from reason_envs.llm.pool import EnginePool
from reason_envs.llm.replica import LostReplicaError, Replica, ServedEngine
from reason_envs.sandbox import BUILDER, SANDBOXES, Outcome, Program, Sandbox, make_sandbox

CONNECT_SECONDS = 10.0
"""Maximum time that a computer may take to accept a connection, or Ray to notice the end of a process."""
WAIT_SECONDS = 60.0
"""Maximum time that Ray may take to place all learners, and a learner to end after another one has ended."""


class RayReplica(Replica):
    """A Ray actor that holds a `ServedEngine`.

    Args:
        gpus: number of GPUs of the actor; Ray hides all others from it.
        timeout_s: maximum time that a call may take, in seconds.
    """

    def __init__(self, gpus: float, timeout_s: float) -> None:
        actor = ray.remote(ServedEngine).options(num_cpus=0, num_gpus=gpus, scheduling_strategy="SPREAD")
        self._actor = actor.remote()
        self._timeout = timeout_s

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the `ServedEngine` (see `Replica.call`)."""
        reference = getattr(self._actor, method).remote(*arguments)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(reference.future()), self._timeout)
        except RayTaskError as error:  # the method raised it
            raise error.cause from error
        except TimeoutError as error:
            rule = f"did not answer {method} within cluster.timeout_s={self._timeout:g} seconds."
            raise LostReplicaError(f"A replica of the engine {rule}") from error
        except RayError as error:
            raise LostReplicaError(f"A replica of the engine has died: {first_line(error)}") from error
        except asyncio.CancelledError:
            ray.cancel(reference)
            raise

    def close(self) -> None:
        """End the actor."""
        ray.kill(self._actor)


def run_program(spec: Any, options: dict[str, Any], program: Program) -> Outcome:
    """Run a program in a sandbox of this process, which is built for the first one."""
    key = repr((spec, options))
    sandbox = _sandboxes.get(key) or _sandboxes.setdefault(key, make_sandbox(spec, **options))
    return sandbox.execute(program)


_sandboxes: dict[str, Sandbox] = {}
"""Sandboxes of a process that runs programs, by their options."""


class RaySandbox(Sandbox):
    """Runs at most ``workers`` programs at the same time, in processes of Ray. A lost process repeats its program.

    Args:
        inner: a sandbox as in each process. It runs no program.
        given: arguments of `make_sandbox` there.
        workers: maximum number of programs at the same time.
        timeout_s: maximum time that a process may take to start and to run a program, in seconds.
    """

    def __init__(self, inner: Sandbox, given: tuple[Any, dict[str, Any]], workers: int, timeout_s: float) -> None:
        super().__init__(workers, inner.output_bytes)
        self._inner, self._given, self._timeout = inner, given, timeout_s

    @property
    def summary(self) -> str:
        """Number of programs at the same time, and the sandbox of each."""
        return f"{self.workers} processes of Ray, each with {self._inner.summary}"

    def execute(self, program: Program) -> Outcome:
        """Run a program in a process of Ray."""
        task = ray.remote(run_program).options(num_cpus=0, max_retries=2, scheduling_strategy="SPREAD")
        reference = task.remote(*self._given, program)
        try:
            return ray.get(reference, timeout=self._timeout)
        except RayTaskError as error:  # the sandbox raised it
            raise error.cause from error
        except RayError as error:
            ray.cancel(reference, force=True)
            return Outcome("killed", reason=f"The process that ran it was lost: {first_line(error)}")


class Learner:
    """A learner in a Ray actor. The actor of rank 0 only holds a GPU for the run's own process."""

    def place(self) -> tuple[str, str]:
        """Return the address of the computer, and the GPUs that Ray gives to this actor."""
        return ray.util.get_node_ip_address(), os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def run(self, variables: dict[str, str], folder: str, train: Callable[[Any], None], config: Any) -> None:
        """Train as a rank that ``torchrun`` starts does, in the working folder of the run's process."""
        os.chdir(folder)
        os.environ.update(variables)
        with suppress(SystemExit):  # a signal stopped the run
            train(typed(config))


class Cluster:
    """A connection to Ray, and the engines that Ray holds.

    Raises:
        OptionError: Ray does not answer at the address.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._pools: list[EnginePool] = []
        self._connected_here = _connect(str(config.address))

    def engine(self, spec: Any) -> Engine:
        """Build the replicas of an engine. One without a device, or that is built already, stays in this process.

        Raises:
            OptionError: the cluster has too few GPUs.
            EngineError: the engine cannot be built.
        """
        name = spec.get("name") if isinstance(spec, Mapping) else spec
        if not isinstance(name, str) or "device" not in ENGINES[name].options():
            return make_engine(spec)
        replicas, there = self._config.engine.replicas, ray.cluster_resources().get("GPU", 0)
        gpus = self._config.engine.gpus
        if gpus is None:
            described: Mapping[str, Any] = {} if isinstance(spec, str) else spec
            needs_gpu = there and described.get("device") != "cpu"
            gpus = described.get("tensor_parallel_size", 1) if needs_gpu else 0
        if gpus * replicas > there:
            rule = f"with {gpus:g} GPUs each needs more than the {there:g} of the cluster: lower it, or add computers."
            raise OptionError("cluster.engine.replicas", replicas, rule)

        async def start() -> tuple[Replica, dict[str, Any]]:
            replica = RayReplica(gpus, self._config.timeout_s)
            return replica, await replica.call("open", spec)

        self._pools.append(EnginePool(start, replicas, ray.put))
        return self._pools[-1]

    @contextmanager
    def sandboxes(self) -> Iterator[None]:
        """Let the sandboxes that are built inside run their programs in ``workers`` processes of Ray, if any."""

        def build(spec: Any, **options: Any) -> Sandbox:
            inner, workers = SANDBOXES.make(spec, **options), self._config.workers
            if not workers or inner is spec:
                return inner
            return RaySandbox(inner, (spec, options), workers, self._config.timeout_s)

        before = BUILDER.set(build)
        try:
            yield
        finally:
            BUILDER.reset(before)

    @contextmanager
    def learners(self, train: Callable[[Any], None], config: TrainConfig) -> Iterator[None]:
        """Start the learners of a run, which call ``train``. Inside, this process is rank 0 of them.

        Raises:
            OptionError: the cluster has too few GPUs.
            RunError: another learner has ended.
        """
        group, actors = _place_learners(config)
        (_, own), *others = _ranks(actors)
        given = os.getcwd(), train, plain_config(config)
        tasks = {actor.run.remote(rank, *given): int(rank["RANK"]) for actor, rank in others}
        lost, is_over, before = Future[RunError](), threading.Event(), os.environ.copy()
        threading.Thread(target=_watch, args=(group, tasks, lost, is_over), daemon=True).start()
        os.environ.update(own)
        try:
            yield
            ray.wait(list(tasks), num_returns=len(tasks), timeout=WAIT_SECONDS)
        except (LostProcessError, RuntimeError) as error:  # PyTorch's own collectives raise the latter
            with suppress(TimeoutError):
                raise lost.result(CONNECT_SECONDS) from error
            raise
        finally:
            is_over.set()
            remove_placement_group(group)
            os.environ.clear()
            os.environ.update(before)

    def close(self) -> None:
        """End the replicas, and Ray if it was started here."""
        for pool in self._pools:
            pool.close()
        if self._connected_here:
            ray.shutdown()


def _connect(address: str) -> bool:
    """Connect to Ray, unless this process is connected already. Return whether it was not."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options = {"include_dashboard": False} if address == "local" else {}
    try:
        if ":" in address:
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address, logging_level=logging.ERROR, **options)
    except (OSError, ValueError, RuntimeError) as error:
        cause = str(error).rstrip().rpartition("\n")[2]  # Ray's client puts it below a traceback
        fix = "Run `ray start --head` there. If it uses a token, set RAY_AUTH_MODE=token."
        raise OptionError("cluster.address", address, f"does not answer ({cause}). {fix}") from error
    return True


def _place_learners(config: TrainConfig) -> tuple[PlacementGroup, list[Any]]:
    """Start an actor for each learner: the first on this computer, the others as close as possible."""
    count, there = config.cluster.learner.gpus, ray.cluster_resources()
    kind = "GPU" if there.get("GPU") and options(config.policy).get("device") != "cpu" else "CPU"
    bundles = [{kind: 1.0} for _ in range(count)]
    bundles[0][f"node:{ray.util.get_node_ip_address()}"] = 0.001
    group = placement_group(bundles, strategy="PACK")
    if count > there.get(kind, 0) or not group.wait(WAIT_SECONDS):
        rule = f"needs as many free {kind}s, one of them on this computer. The cluster has {there.get(kind, 0):g}."
        raise OptionError("cluster.learner.gpus", count, f"{rule} Lower it, or add computers.")
    actor, needs = ray.remote(Learner), {"num_cpus": int(kind == "CPU"), "num_gpus": int(kind == "GPU")}
    places = [PlacementGroupSchedulingStrategy(group, bundle) for bundle in range(count)]
    return group, [actor.options(scheduling_strategy=place, **needs).remote() for place in places]


def _ranks(actors: Sequence[Any]) -> list[tuple[Any, dict[str, str]]]:
    """Return the actors by rank, each with the variables of its process. The ranks of a computer are neighbours."""
    places = ray.get([actor.place.remote() for actor in actors])
    hosts = [host for host, _ in places]
    with socket.socket() as free:
        free.bind(("", 0))
        shared = {"MASTER_ADDR": hosts[0], "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(len(actors))}
    ranks: list[tuple[Any, dict[str, str]]] = []
    for place in sorted(range(len(actors)), key=lambda place: (hosts[place] != hosts[0], hosts[place])):
        own = {"CUDA_VISIBLE_DEVICES": places[place][1], "LOCAL_RANK": "0"}
        own |= {"RANK": str(len(ranks)), "LOCAL_WORLD_SIZE": str(hosts.count(hosts[place]))}
        ranks.append((actors[place], {**shared, **own}))
    return ranks


def _watch(group: PlacementGroup, tasks: dict[Any, int], lost: Future[RunError], is_over: threading.Event) -> None:
    """Wait for the learners. If one fails, name it and end the others, and this process unless it ends by itself."""
    waiting = list(tasks)
    while waiting:
        (task,), waiting = ray.wait(waiting)
        try:
            ray.get(task)
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            if isinstance(cause, LostProcessError):  # it waited for the one that failed
                continue
            lost.set_result(RunError(f"The learner of rank {tasks[task]} has ended: {first_line(cause)}"))
            remove_placement_group(group)
            if not is_over.wait(WAIT_SECONDS):  # nothing interrupts a collective on GPUs
                print(f"error: {lost.result()}", file=sys.stderr, flush=True)
                os._exit(2)
            return
