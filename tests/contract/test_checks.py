"""The static checks bite: each is given something wrong and must say so."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from deploy.checks import requirements
from deploy.checks.requirements import Requirement
from deploy.checks.rooms import _leaning_up as leaning_up
from deploy.codegen.generate import ROOT, differences

BIN = Path(sys.executable).parent


def buf(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "buf", *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    """A copy of the contracts to spoil."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_contracts_are_clean_and_compatible_with_the_last_release(protos: Path) -> None:
    assert buf(protos, "lint").stdout == ""
    assert buf(protos, "breaking", "--against", "proto/baseline.binpb").stdout == ""


def test_changing_the_number_of_a_field_is_breaking(protos: Path) -> None:
    rewrite(protos / "proto/fastchat/common/v1/usage.proto", "prompt_tokens = 1;", "prompt_tokens = 91;")
    done = buf(protos, "breaking", "--against", "proto/baseline.binpb")
    assert done.returncode != 0
    assert "prompt_tokens" in done.stdout


def test_a_field_without_a_comment_is_refused(protos: Path) -> None:
    rewrite(protos / "proto/fastchat/common/v1/scope_service.proto", "  // Required. The tenant.\n", "")
    assert "tenant_id" in buf(protos, "lint").stdout


def test_drift_is_seen_in_either_direction(tmp_path: Path) -> None:
    for side, files in {"ours": {"a.py": "1", "old.py": "1"}, "theirs": {"a.py": "2", "new.py": "1"}}.items():
        for name, text in files.items():
            path = tmp_path / side / "python" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    assert differences(tmp_path / "ours", tmp_path / "theirs") == ["python/a.py", "python/new.py", "python/old.py"]


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("edge.app", "edge.api.chat", True),
        ("edge.api.chat", "edge.threads", True),
        ("edge.threads", "edge.history", True),
        ("edge.threads", "edge.store", True),
        ("edge.api.chat", "edge.api.errors", True),
        ("edge.threads", "edge.api.chat", False),
        ("edge.store", "edge.threads", False),
        ("edge.clients", "edge.config", False),
        ("edge.api.chat", "edge.app", False),
        ("edge.api.chat", "edge.gateway.chat", False),
    ],
)
def test_imports_lean_downwards_inside_a_service(importer: str, imported: str, allowed: bool) -> None:
    graph = grimp.ImportGraph()
    for module in ("edge", importer, imported):
        graph.add_module(module)
    graph.add_import(importer=importer, imported=imported)
    assert leaning_up(graph, "edge") == ([] if allowed else [(importer, imported)])


def test_a_requirement_needs_a_test_and_a_test_a_requirement() -> None:
    known = [Requirement("FR-001", "one"), Requirement("FR-002", "two", later=True), Requirement("FR-003", "")]
    shown = {"FR-002": ["t.py::early"], "FR-003": ["t.py::fine"], "FR-999": ["t.py::wrong"]}
    assert [line.split(":")[0] for line in requirements.problems(known, shown)] == ["FR-999", "FR-001", "FR-002"]


def test_marks_are_read_from_decorators_and_modules(tmp_path: Path) -> None:
    source = (
        "import pytest\npytestmark = [pytest.mark.req('A')]\n"
        "@pytest.mark.req('B', 'C')\nasync def test_x(): ...\n"
        "class TestY:\n    @pytest.mark.req('D')\n    def test_z(self): ...\n"
    )
    ast.parse(source)
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_a.py").write_text(source)
    file = "tests/test_a.py"
    assert requirements.marks(folder) == {
        "A": [file],
        "B": [f"{file}::test_x"],
        "C": [f"{file}::test_x"],
        "D": [f"{file}::test_z"],
    }
