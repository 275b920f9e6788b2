"""An import-linter contract: which room of a service may know which.

``__main__`` > ``app`` > ``service``, ``api``, ``gateway`` > domain > ``clients``, ``store``, ``config``.
Everything that is not one of the named rooms is domain. import-linter's own
layers want every module named; this one needs no edit when a domain module comes.
"""

from __future__ import annotations

import grimp
from importlinter import Contract, ContractCheck, fields, output

_DOMAIN = 1
_RANKS = {
    "__main__": 4,
    "app": 3,
    "service": 2,
    "api": 2,
    "gateway": 2,
    "clients": 0,
    "store": 0,
    "config": 0,
    "migrations": 0,
}


def rank(module: str) -> int:
    """How high the room of ``service.room[.more]`` stands; the service's own package counts as lowest."""
    parts = module.split(".")
    return _RANKS.get(parts[1], _DOMAIN) if len(parts) > 1 else 0


class RoomsContract(Contract):
    """Inside each service imports lean downwards only; beside each other stand only domain modules."""

    type_name = "rooms"
    services = fields.ListField(subfield=fields.StringField())

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        """Returns the check, with the offending imports as (importer, imported)."""
        broken = [pair for service in self.services for pair in _leaning_up(graph, str(service))]  # type: ignore[attr-defined] # declared as a field, read as a list
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line an offending import."""
        for importer, imported in check.metadata["broken"]:
            output.print_error(f"{importer} must not import {imported}: it stands higher or beside it", bold=False)
        output.new_line()


def _leaning_up(graph: grimp.ImportGraph, service: str) -> list[tuple[str, str]]:
    inside = {service, *graph.find_descendants(service)}
    return [
        (importer, imported)
        for importer in sorted(inside)
        for imported in sorted(graph.find_modules_directly_imported_by(importer) & inside)
        if not _allowed(importer, imported)
    ]


def _allowed(importer: str, imported: str) -> bool:
    if importer.split(".")[1:2] == imported.split(".")[1:2]:  # inside one room
        return True
    if rank(importer) == rank(imported):
        return rank(importer) == _DOMAIN
    return rank(importer) > rank(imported)
