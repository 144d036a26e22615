"""Engines in processes that Ray places on one computer or several. No other module imports Ray."""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from agents.config.cluster import ClusterConfig
from reason_envs.errors import OptionError, first_line
from reason_envs.llm import ENGINES, make_engine
from reason_envs.llm.engine import Engine
from reason_envs.llm.pool import EnginePool
from reason_envs.llm.replica import LostReplicaError, Replica, ServedEngine

CONNECT_SECONDS = 10.0
"""Maximum time that the computer of an address may take to accept a connection."""


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
        fix = "Run `ray start --head` there. If it uses a token, set RAY_AUTH_MODE=token."
        raise OptionError("cluster.address", address, f"does not answer ({first_line(error)}). {fix}") from error
    return True
