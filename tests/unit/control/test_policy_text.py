"""Cedar text: what may stand in a bundle, and what the built-in bundle lets roles do."""

from __future__ import annotations

import cedarpy
import pytest

from control.policy import built_in_text
from control.policy.actions import ACTIONS
from control.policy.text import check, statements
from kit.errors import PlatformError

_RULE = '@id("a") forbid (principal, action == Action::"model.call", resource);'


def test_rules_are_told_by_their_ids() -> None:
    more = '// why; because\n@id("b")\npermit (principal, action, resource)\nwhen { resource.name == "x;y" };'
    assert check(f"{_RULE}\n{more}") == ["a", "b"]


@pytest.mark.parametrize(
    ("cedar", "line", "message"),
    [
        ('@id("a")\npermit (principal action, resource);', 2, "Not Cedar: unexpected token"),
        (f'{_RULE}\n\n// so\n@id("b")\nforbid (\n  principal,\n  action resource);', 7, "Not Cedar"),
        ('@id("a")\npermit (principal, action, resource)\nwhen { principal.x = 3 };', 3, "not a valid operator"),
        ('@id("a") permit (principal, action, resource)', 1, "unexpected end of input"),
        (f"{_RULE}\npermit (principal, action, resource);", 2, "lacks its @id"),
        (f"{_RULE}\n{_RULE}", 2, "given twice"),
        ('@id("builtin.x") permit (principal, action, resource);', 1, "platform's own"),
        ('@id("a") forbid (principal, action == Action::"model.cal", resource);', 1, "no action model.cal"),
        ('@id("a") permit (principal == ?principal, action, resource);', 1, "Templates"),
        ('@id("a") permit (principal, action, resource);\n\n;', 3, "Not Cedar"),
    ],
)
def test_text_that_may_not_stand_is_refused_with_its_line(cedar: str, line: int, message: str) -> None:
    with pytest.raises(PlatformError, match=message) as caught:
        check(cedar)
    assert caught.value.metadata == {"field": "cedar", "line": str(line)}


@pytest.mark.parametrize("cedar", ["", "// nothing", "x" * 70_000])
def test_an_empty_or_endless_bundle_is_refused(cedar: str) -> None:
    with pytest.raises(PlatformError) as caught:
        check(cedar)
    assert caught.value.metadata["field"] == "cedar"


def test_every_builtin_rule_has_an_id_of_its_own() -> None:
    ids = [part.text.partition('@id("')[2].partition('"')[0] for part in statements(built_in_text())]
    assert len(ids) == len(set(ids)) == built_in_text().count("@id(")
    assert all(rule.startswith("builtin.") for rule in ids)


def test_the_builtin_bundle_names_only_actions_that_exist() -> None:
    named = {part.partition('"')[0] for part in built_in_text().split('Action::"')[1:]}
    assert named <= ACTIONS


_READS = {action for action in ACTIONS if action.endswith(".read")} | {"model.list"}
_USE = {
    "chat.create",
    "model.call",
    "model.list",
    "embedding.create",
    "thread.read",
    "thread.write",
    "run.read",
    "run.cancel",
}
_MAY = {
    "admin": ACTIONS,
    "operator": _USE | {action for action in _READS if action.startswith("admin.")} | {"admin.job.write"},
    "member": _USE,
    "service": _USE,
    "viewer": {"model.list", "thread.read", "run.read"},
    "stranger": set(),
}


def _allowed(role: str, action: str, *, scopes: tuple[str, ...] = ("chat",), tenant: str = "acme") -> bool:
    entities = [
        {
            "uid": {"type": "User", "id": "u"},
            "attrs": {"tenant": "acme", "workspace": "", "scopes": list(scopes)},
            "parents": [{"type": "Role", "id": role}],
        },
        {"uid": {"type": "Role", "id": role}, "attrs": {}, "parents": []},
        {"uid": {"type": "Thing", "id": "t"}, "attrs": {"tenant": tenant}, "parents": []},
    ]
    request = {"principal": 'User::"u"', "action": f'Action::"{action}"', "resource": 'Thing::"t"', "context": {}}
    result = cedarpy.is_authorized(request, built_in_text(), entities)
    assert not result.diagnostics.errors
    return bool(result.allowed)


@pytest.mark.req("PR-027")
@pytest.mark.parametrize("role", _MAY)
def test_each_role_may_what_its_row_says_and_nothing_else(role: str) -> None:
    assert {action for action in ACTIONS if _allowed(role, action)} == _MAY[role]


@pytest.mark.req("PR-030")
def test_no_role_reaches_another_tenant_but_the_platform_does() -> None:
    assert not any(_allowed("admin", action, tenant="other") for action in ACTIONS)
    assert _allowed("service", "admin.tenant.write", scopes=("platform",), tenant="other")
