"""Two tenants: nothing of the one can be read, written, or told from absent by the other.

Requests are made from the proto descriptors and the route table: a new rpc, route or field that the tables of
tests.support.isolation do not know fails here.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from edge.auth.authenticator import HEADERS as READ_HEADERS
from tests.support.isolation.route_table import HEADERS, PLAIN_HEADERS, ROUTES
from tests.support.isolation.routes import document, operations, unknown_names
from tests.support.isolation.rpc_table import NOT_SERVED, RPCS
from tests.support.isolation.rpcs import Method, methods, served, unknown_fields
from tests.support.isolation.worlds import Outcome, pair_of, swept_routes, swept_rpcs
from tests.support.stack import Stack

pytestmark = pytest.mark.req("PR-030")

METHODS = methods()
KINDS_OF_RPC = {method.key: method for method in METHODS}
SERVED = sorted({method.name for method in served(METHODS)})
DOCUMENT = document()
OPERATIONS = operations(DOCUMENT)


@pytest.fixture(scope="module")
def rpcs(stack: Stack) -> Iterator[Outcome]:
    with pair_of(stack) as pair:
        yield swept_rpcs(stack, pair)


@pytest.fixture(scope="module")
def routes(stack: Stack) -> Iterator[Outcome]:
    with pair_of(stack) as pair:
        yield swept_routes(stack, pair)


def test_every_rpc_is_known() -> None:
    assert {method.key for method in METHODS} == RPCS.keys() | NOT_SERVED


@pytest.mark.parametrize("method", KINDS_OF_RPC.values(), ids=KINDS_OF_RPC.keys())
def test_every_field_is_known(method: Method) -> None:
    assert unknown_fields(method.descriptor) == []


def test_every_route_is_known() -> None:
    assert OPERATIONS.keys() == ROUTES.keys()
    assert set(READ_HEADERS) == HEADERS.keys() | PLAIN_HEADERS


@pytest.mark.parametrize("route", OPERATIONS)
def test_every_parameter_is_known(route: str) -> None:
    assert unknown_names(route, OPERATIONS[route], DOCUMENT) == []


def test_the_server_has_no_other_routes(stack: Stack) -> None:
    assert operations(httpx.get(f"{stack.url}/openapi.json").json()).keys() == OPERATIONS.keys()


@pytest.mark.parametrize("rpc", SERVED)
def test_anothers_ids_are_like_absent_ones_over_grpc(rpcs: Outcome, rpc: str) -> None:
    assert rpcs.swept.findings[rpc] == []


@pytest.mark.parametrize("rpc", SERVED)
def test_the_same_rpc_is_valid_for_the_owner(rpcs: Outcome, rpc: str) -> None:
    assert rpcs.swept.owners[rpc] == []


def test_nothing_changed_over_grpc(rpcs: Outcome) -> None:
    assert rpcs.changes() == []


def test_what_is_declared_for_later_is_not_served(rpcs: Outcome) -> None:
    assert set(rpcs.unserved.values()) == {"UNIMPLEMENTED"}


@pytest.mark.parametrize("route", OPERATIONS)
def test_anothers_ids_are_like_absent_ones_over_http(routes: Outcome, route: str) -> None:
    assert routes.swept.findings[route] == []


@pytest.mark.parametrize("route", OPERATIONS)
def test_the_same_request_is_valid_for_the_owner(routes: Outcome, route: str) -> None:
    assert routes.swept.owners[route] == []


def test_nothing_changed_over_http(routes: Outcome) -> None:
    assert routes.changes() == []
