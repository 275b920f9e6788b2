"""Schema changes expand before they contract: the release before keeps working on the new schema.

A migration that takes something away, renames it or narrows it says so by `contract = "<release>"`: the release whose
code was the first not to need it any more. Everything else only adds.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.services import SERVICES

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = sorted(path for name in SERVICES for path in (ROOT / name / "migrations" / "versions").glob("[0-9]*.py"))
TAKING = re.compile(r"\b(DROP|RENAME|SET\s+NOT\s+NULL|TRUNCATE)\b", re.IGNORECASE)
NARROWING = {"new_column_name", "type_"}

pytestmark = pytest.mark.req("PR-035")


def takes_away(source: str) -> list[str]:
    """What `upgrade` does that the code of the release before may not survive; nothing when it is marked."""
    tree = ast.parse(source)
    marked = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "contract"]
    if any(isinstance(node.value, ast.Constant) and node.value.value for node in marked):
        return []
    # `downgrade` may take away; every other function may be what `upgrade` calls
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name != "downgrade"]
    return [found for function in functions for found in _found(function)]


def _found(function: ast.FunctionDef) -> Iterator[str]:
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        check = _CHECKS.get(name.partition("_")[0] + "_" if name.startswith(("drop_", "rename_")) else name)
        if check is not None and check(call):
            yield ast.unparse(call)


def _narrows(call: ast.Call) -> bool:
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    return bool(NARROWING & given.keys()) or given.get("nullable") == "False"


def _obligatory(call: ast.Call) -> bool:
    """Whether older code, which does not know the column, could not insert any more."""
    columns = [node for node in ast.walk(call) if isinstance(node, ast.Call) and node is not call]
    told = [{word.arg: ast.unparse(word.value) for word in column.keywords} for column in columns]
    return any(given.get("nullable") == "False" and "server_default" not in given for given in told)


def _takes(call: ast.Call) -> bool:
    return TAKING.search(ast.unparse(call)) is not None


_CHECKS: dict[str, Callable[[ast.Call], bool]] = {
    "drop_": lambda call: True,
    "rename_": lambda call: True,
    "alter_column": _narrows,
    "add_column": _obligatory,
    "execute": _takes,
    "text": _takes,
}


def test_there_are_migrations() -> None:
    assert {path.parts[-4] for path in MIGRATIONS} >= {"control", "edge", "orchestrator"}


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_a_migration_only_adds(path: Path) -> None:
    assert takes_away(path.read_text()) == []


@pytest.mark.parametrize(
    "step",
    [
        "op.drop_column('threads', 'title')",
        "op.drop_table('threads')",
        "op.rename_table('threads', 'talks')",
        "op.alter_column('threads', 'title', new_column_name='name')",
        "op.alter_column('threads', 'title', nullable=False)",
        "op.add_column('threads', sa.Column('owner', sa.String(9), nullable=False))",
        "op.execute('ALTER TABLE threads DROP COLUMN title')",
    ],
)
def test_what_takes_away_is_seen_unless_it_is_marked(step: str) -> None:
    source = f"def upgrade():\n    {step}\n\ndef downgrade():\n    op.drop_table('x')\n"
    assert len(takes_away(source)) == 1
    assert takes_away(f'contract = "1.4"\n{source}') == []


@pytest.mark.parametrize(
    "step",
    [
        "op.create_table('t', sa.Column('a', sa.String(9), nullable=False))",
        "op.add_column('threads', sa.Column('owner', sa.String(9), nullable=True))",
        "op.add_column('threads', sa.Column('owner', sa.String(9), nullable=False, server_default=''))",
        "op.alter_column('threads', 'title', nullable=True)",
        "op.create_index('i', 'threads', ['title'])",
    ],
)
def test_what_adds_is_fine(step: str) -> None:
    assert takes_away(f"def upgrade():\n    {step}\n") == []
