"""Several replicas of a service in the six-process shape: who listens where, and what each says of itself."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families

from deploy.allinone.nats import free_port


class Crew:
    """Processes by name: "edge" is the first of its service, "edge-2" the second.

    Every process has a metrics port. Others dial all replicas of a service as one target, and gRPC goes round.
    """

    def __init__(self, services: Sequence[str], replicas: Mapping[str, int]) -> None:
        self.shared: dict[str, str] = {}
        """Environment that all processes get."""
        self.members: dict[str, tuple[str, Mapping[str, str]]] = {}
        """Name of a process -> its service, and the environment that is its own."""
        self._edges: dict[str, str] = {}
        self._metrics: dict[str, str] = {}
        for service in services:
            self._add(service, replicas.get(service, 1))

    def url(self, process: str) -> str:
        """HTTP address of an edge beyond the first, whose address the stack has."""
        return self._edges[process]

    def ready(self, process: str) -> bool:
        """Whether the process says that it is ready."""
        return self._get(process, "/health") is not None

    def metric(self, process: str, name: str, **labels: str) -> float:
        """A metric's value, summed over the labels not given; 0 when there is none, or the process is not there."""
        families = text_string_to_metric_families(self._get(process, "/metrics") or "")
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def _add(self, service: str, count: int) -> None:
        binds = [f"127.0.0.1:{free_port()}" for _ in range(count)]
        target = f"ipv4:{','.join(binds)}" if count > 1 else binds[0]
        self.shared[f"FASTCHAT_MESH__ADDRESSES__{service.upper()}"] = target
        for number, bind in enumerate(binds, start=1):
            name = service if number == 1 else f"{service}-{number}"
            port = free_port()
            own = {f"FASTCHAT_MESH__BIND__{service.upper()}": bind, "FASTCHAT_TELEMETRY__METRICS_PORT": str(port)}
            if service == "edge" and number > 1:
                http, grpc = free_port(), free_port()
                own |= {"FASTCHAT_EDGE__PORT": str(http), "FASTCHAT_EDGE__PARTNER__PORT": str(grpc)}
                self._edges[name] = f"http://127.0.0.1:{http}"
            self._metrics[name] = f"http://127.0.0.1:{port}"
            self.members[name] = (service, own)

    def _get(self, process: str, path: str) -> str | None:
        try:
            with urllib.request.urlopen(self._metrics[process] + path, timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as refused:
            refused.close()
        except OSError:
            pass
        return None
