"""The files that deploy the six services say what the product needs; no container engine is wanted for that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.codegen.generate import ROOT
from deploy.services import configuration
from kit.mesh import MeshConfig

SERVICES = ("edge", "orchestrator", "knowledge", "memory", "integration", "control")
COMPOSE = ROOT / "deploy" / "compose"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return document


@pytest.mark.req("FR-032")
@pytest.mark.parametrize("service", SERVICES)
def test_each_service_runs_alone_from_the_one_image(compose: dict[str, Any], service: str) -> None:
    entry = compose["services"][service]
    assert entry["command"] == ["serve", "--only", service]
    assert entry["image"] == compose["services"]["edge"]["image"]
    assert entry["healthcheck"]["test"] == ["CMD", "fastchat", "probe", service]
    assert entry["environment"][f"FASTCHAT_MESH__ADDRESSES__{service.upper()}"] == f"dns:///{service}:7000"
    assert entry["environment"]["FASTCHAT_DATABASE__URL"].startswith("postgresql://")


@pytest.mark.req("FR-032")
@pytest.mark.parametrize("service", SERVICES)
def test_the_settings_of_each_service_are_accepted(compose: dict[str, Any], service: str) -> None:
    environment = {name: str(value) for name, value in compose["services"][service]["environment"].items()}
    mesh = configuration(environment).section("mesh", MeshConfig)
    assert mesh.bind_of(service) == "0.0.0.0:7000"
    assert mesh.addresses[service] == f"dns:///{service}:7000"


@pytest.mark.req("FR-032")
def test_only_the_edge_and_the_dashboards_are_published_and_on_loopback(compose: dict[str, Any]) -> None:
    published = {name: entry["ports"] for name, entry in compose["services"].items() if "ports" in entry}
    assert set(published) == {"edge", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_everything_mounted_and_depended_on_exists(compose: dict[str, Any]) -> None:
    for entry in compose["services"].values():
        for volume in entry.get("volumes", []):
            source = volume.split(":")[0]
            assert (COMPOSE / source).exists() if source.startswith(".") else source in compose["volumes"]
        assert set(entry.get("depends_on", {})) <= set(compose["services"])
        assert set(entry["networks"]) <= set(compose["networks"])


def test_observability_files_parse() -> None:
    folder = ROOT / "deploy" / "observability"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".yml", ".yaml", ".json"}
    for path in files:
        (json.loads if path.suffix == ".json" else yaml.safe_load)(path.read_text())


@pytest.mark.req("FR-032")
def test_prometheus_asks_every_service() -> None:
    document = yaml.safe_load((ROOT / "deploy" / "observability" / "prometheus.yml").read_text())
    targets = {
        target for job in document["scrape_configs"] for group in job["static_configs"] for target in group["targets"]
    }
    assert {f"{service}:9464" for service in SERVICES} <= targets


def test_dockerfile_is_clean_and_does_not_run_as_root() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
    assert 'ENTRYPOINT ["fastchat"]' in lines
