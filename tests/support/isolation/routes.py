"""Every route of the edge, from its OpenAPI document, as cases of the sweep."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
from fastapi import FastAPI

from edge.api import ROUTERS
from tests.support.isolation.masks import UNTOLD_HEADERS
from tests.support.isolation.route_table import HEADERS, KINDS, PLAIN, ROUTES, Route
from tests.support.isolation.sweep import Answer, Slot
from tests.support.isolation.templates import filled
from tests.support.isolation.tenants import Ids

Operation = Mapping[str, Any]
_METHODS = ("get", "post", "put", "patch", "delete")


class _Anything:
    """Stands for whatever a router asks of its dependencies while it is only described."""

    def __getattr__(self, _: str) -> _Anything:
        return self

    def __call__(self, *_: object, **__: object) -> _Anything:
        return self


def document() -> dict[str, Any]:
    """The OpenAPI document of all routers, without a server."""
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router(_Anything()))  # type: ignore[arg-type]  # nothing is called
    return app.openapi()


def operations(document: Mapping[str, Any]) -> dict[str, Operation]:
    """Every operation, by method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in _METHODS
    }


def unknown_names(route: str, operation: Operation, document: Mapping[str, Any]) -> list[str]:
    """Parameters and properties of which the table does not say whether they name things."""
    names = [parameter["name"] for parameter in operation.get("parameters", ())]
    names += [path[-1] for path in _properties(operation, document)]
    known = (*KINDS, *PLAIN)
    return [name for name in names if name not in known and f"{route} {name}" not in known]


def _properties(operation: Operation, document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    content = operation.get("requestBody", {}).get("content", {})
    for media in content.values():
        yield from _walk(media["schema"], document, ())


def _walk(schema: Mapping[str, Any], document: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        yield from _walk(document["components"]["schemas"][name], document, path)
    for part in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(part, ()):
            yield from _walk(inner, document, path)
    if isinstance(schema.get("items"), Mapping):
        yield from _walk(schema["items"], document, path)
    for name, inner in schema.get("properties", {}).items():
        yield (*path, name)
        yield from _walk(inner, document, (*path, name))


class RouteCase:
    """A route as a case of the sweep."""

    def __init__(self, name: str, document: Mapping[str, Any], http: httpx.Client, other_key: str) -> None:
        """`other_key`: API key of tenant B."""
        self.name = name
        self._method, self._path = name.split(" ")
        self._operation = operations(document)[name]
        self._document = document
        self._route: Route = ROUTES[name]
        self._http = http
        self._other_key = other_key
        self.lively = self._route.lively
        self.order, self.owner_order = self._route.order, self._route.owner_order
        self.owner = self._route.owner

    def slots(self) -> Sequence[Slot]:
        """What names things in path, query, body and headers."""
        found = [
            Slot(f"{place} {name}", (place, name), kind)
            for place, name in self._parameters()
            if (kind := self._kind(name))
        ]
        for path in _properties(self._operation, self._document):
            kind = self._kind(path[-1])
            if kind:
                found.append(Slot(f"body {'.'.join(path)}", ("body", *path), kind))
        if self._path.startswith("/v1/"):
            found += [Slot(f"header {name}", ("header", name), kind) for name, kind in HEADERS.items()]
        return found

    def send(self, api_key: str, base: Ids, slot: Slot | None = None, ids: Ids | None = None) -> Answer:
        """Ask; of a stream, read all (the owner's: the first piece)."""
        parts = self._filled(base)
        if slot is not None and ids is not None:
            _put(parts, slot.path, self._with_page(ids)[slot.kind])
        path = self._path
        for name, value in parts["path"].items():
            path = path.replace(f"{{{name}}}", quote(value))
        headers = {"authorization": f"Bearer {api_key}", **parts["header"]}
        request = self._http.build_request(
            self._method, path, params=parts["query"], json=parts["body"], headers=headers
        )
        answer = self._http.send(request, stream=True)
        try:
            body = self._read(answer, whole=api_key == self._other_key)
        finally:
            answer.close()
        sent = f"{request.method} {request.url} {json.dumps(parts)}"
        told = {name: value for name, value in answer.headers.items() if name not in UNTOLD_HEADERS}
        return Answer(str(answer.status_code), told, body, sent)

    def undo(self, ids: Ids) -> None:
        """As tenant B, take away what such a request may have made."""
        if self._route.undo:
            path = filled(self._route.undo, ids)
            self._http.delete(path, headers={"authorization": f"Bearer {self._other_key}"})

    def _read(self, answer: httpx.Response, *, whole: bool) -> str:
        if not whole and answer.headers.get("content-type", "").startswith("text/event-stream"):
            return next(answer.iter_text())
        return answer.read().decode()

    def _parameters(self) -> Iterator[tuple[str, str]]:
        for parameter in self._operation.get("parameters", ()):
            yield parameter["in"], parameter["name"]

    def _kind(self, name: str) -> str | None:
        return KINDS.get(f"{self.name} {name}") or KINDS.get(name)

    def _with_page(self, ids: Ids) -> Ids:
        return ids if self._route.page is None else {**ids, "page": self._route.page(ids)}

    def _filled(self, ids: Ids) -> dict[str, Any]:
        parts: dict[str, Any] = {"path": {}, "query": {}, "header": {}, "body": filled(self._route.body, ids)}
        for place, name in self._parameters():
            kind = self._kind(name)
            if kind and kind != "page":
                parts[place][name] = ids[kind]
        return parts


def _put(parts: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    inner: Any = parts
    for name in path[:-1]:
        if isinstance(inner, list):
            inner = inner[0]
        inner = inner.setdefault(name, {})
    if isinstance(inner, list):
        inner = inner[0]
    inner[path[-1]] = value
