"""Plugins are found by entry point, and a missing extra takes only itself away."""

from importlib.metadata import EntryPoint

import pytest

from kit.errors import PlatformError, Reason
from kit.plugins import Absent, Plugins


def plugins(**points: str) -> Plugins:
    group = "fastchat.vector_providers"
    return Plugins("vector_providers", {name: EntryPoint(name, value, group) for name, value in points.items()})


def test_plugin_is_loaded_once_by_name() -> None:
    found = plugins(health="kit.health:Health")
    assert found.names() == ["health"]
    assert found.load("health") is found.load("health")


def test_unknown_name_tells_the_known_ones() -> None:
    with pytest.raises(PlatformError, match="vector provider called pinecone; there are: milvus, qdrant") as caught:
        plugins(qdrant="a:b", milvus="c:d").load("pinecone")
    assert caught.value.reason is Reason.UNSUPPORTED_FEATURE


@pytest.mark.parametrize("target", ["no_such_module_at_all:x", "kit.health:NoSuchName"])
def test_missing_extra_is_absent_and_the_others_stay(target: str) -> None:
    found = plugins(broken=target, health="kit.health:Health")
    with pytest.raises(PlatformError, match="broken is not installed here"):
        found.load("broken")
    assert [type(absent) for absent in found.examine()] == [Absent]
    assert found.load("health")


def test_installed_group_is_read() -> None:
    assert Plugins.of("nobody_registers_this").names() == []
