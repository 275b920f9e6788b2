"""The gRPC surface of the knowledge service."""

from collections.abc import Sequence

from fastchat.common.v1 import scope_service_pb2, scope_service_pb2_grpc
from kit.db import Database
from kit.db.scope import ScopeServicer
from kit.server import Registration
from knowledge.store import TABLES

SERVICE_NAMES = (scope_service_pb2.DESCRIPTOR.services_by_name["ScopeService"].full_name,)


def registrations(database: Database) -> Sequence[Registration]:
    """What adds the servicers to a server."""
    scope = ScopeServicer(database, TABLES)
    return (lambda server: scope_service_pb2_grpc.add_ScopeServiceServicer_to_server(scope, server),)
