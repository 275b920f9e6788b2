"""What a tenant's model entry may tell is refused twice, where it is written and where it is used: by the same rule.

The two services share no code (they meet only at contracts), so this holds their lists together.
"""

from __future__ import annotations

from control import entries as written
from integration.models import entries as used


def test_both_walls_let_the_same_parameters_through() -> None:
    assert written.TENANT_PARAMETERS == used.TENANT_PARAMETERS


def test_both_walls_refuse_the_same_ambient_providers() -> None:
    assert set(written.AMBIENT) == set(used.AMBIENT)
