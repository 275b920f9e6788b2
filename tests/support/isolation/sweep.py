"""The sweep: tenant B sends tenant A's ids, then absent ids of the same form, and must not be able to tell which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.support.isolation.masks import masked
from tests.support.isolation.tenants import Ids, Tenant, absent


@dataclass(frozen=True)
class Slot:
    """A place of a request that names a thing: where, and which kind of id goes there."""

    where: str
    path: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class Answer:
    """One answer, in comparable parts."""

    status: str
    headers: Mapping[str, str]
    body: str
    sent: str
    """The request as text."""

    def text(self) -> str:
        """Everything that was told."""
        return "\n".join((self.status, *self.headers.values(), self.body))


class Case(Protocol):
    """An rpc of a service, or a route."""

    name: str
    lively: bool
    """Whether two answers differ at any rate."""
    order: int
    """Later where it makes something that others would find."""
    owner_order: int
    """Later where it takes something away that others need."""
    owner: tuple[str, ...]
    """Statuses that the things' owner gets."""

    def slots(self) -> Sequence[Slot]:
        """Every place for an id."""

    def send(self, api_key: str, base: Ids, slot: Slot | None = None, ids: Ids | None = None) -> Answer:
        """Send the request filled with `base`, and with one of `ids` in the slot."""

    def undo(self, ids: Ids) -> None:
        """As tenant B, take away what such a request may have made."""


@dataclass
class Swept:
    """What a sweep found, by name of the case; and how many requests it took."""

    findings: dict[str, list[str]] = field(default_factory=dict)
    owners: dict[str, list[str]] = field(default_factory=dict)
    requests: int = 0


def sweep(cases: Sequence[Case], a: Tenant, b: Tenant) -> Swept:
    """Every case with A's ids all at once, then one at a time among B's own."""
    swept = Swept()
    nothing = absent(a.ids)
    for case in sorted(cases, key=lambda case: case.order):
        swept.findings[case.name] = []
        for label, send in _variants(case, b):
            theirs, none = send(a.ids), send(nothing)
            for ids in (a.ids, nothing):
                case.undo(ids)
            swept.requests += 2
            swept.findings[case.name] += [f"{label}: {found}" for found in _told(theirs, none, a)]
            if not case.lively:
                swept.findings[case.name] += [f"{label}: {found}" for found in _compared(theirs, none, a, nothing)]
    return swept


def sweep_owner(cases: Sequence[Case], a: Tenant, swept: Swept) -> None:
    """The same requests by A's own administrator: they are valid, or the sweep would have shown nothing."""
    for case in sorted(cases, key=lambda case: case.owner_order):
        answer = case.send(a.api_key, a.ids)
        told = [] if answer.status in case.owner else [f"{answer.status} {answer.body[:300]} for {answer.sent[:300]}"]
        swept.owners[case.name] = told


def _variants(case: Case, b: Tenant) -> Iterator[tuple[str, Callable[[Ids], Answer]]]:
    slots = case.slots()
    if not slots:
        yield "no ids", lambda ids: case.send(b.api_key, b.ids)
        return
    yield "all", lambda ids: case.send(b.api_key, ids)
    for slot in slots:
        yield slot.where, _one(case, b, slot)


def _one(case: Case, b: Tenant, slot: Slot) -> Callable[[Ids], Answer]:
    def send(ids: Ids) -> Answer:
        # beside B's own things a header would change nothing but B's
        base = ids if slot.where.startswith("header ") else b.ids
        return case.send(b.api_key, base, slot, ids)

    return send


def _compared(theirs: Answer, none: Answer, a: Tenant, nothing: Ids) -> Iterator[str]:
    for part in ("status", "headers", "body"):
        one, other = (masked(str(getattr(answer, part)), ids) for answer, ids in ((theirs, a.ids), (none, nothing)))
        if one != other:
            yield f"{part} tells them apart: {one[:600]} | {other[:600]}"


def _told(theirs: Answer, none: Answer, a: Tenant) -> Iterator[str]:
    if theirs.status.startswith(("5", "INTERNAL", "UNKNOWN", "DEADLINE", "UNAUTHENTICATED", "UNIMPLEMENTED", "401")):
        yield f"it breaks: {theirs.status} {theirs.body[:300]}"
    told = theirs.text() + none.text()
    for secret in (*a.canaries, *a.ids.values()):
        if secret in told and secret not in theirs.sent:
            yield f"{secret} is told: {told[:600]}"
