"""What all admin routes share: whose resources are meant, versions (ETag), and pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from urllib.parse import urlencode

import orjson
from fastapi import Depends, Header, Query, Request, Response
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict, Field

from edge.auth.identity import Authenticated, identity
from kit.errors import PlatformError, Reason

T = TypeVar("T")


class Body(BaseModel):
    """A request body: unknown fields are refused, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(extra="forbid")


class Deleted(BaseModel):
    """A resource is gone."""

    id: str
    object: str
    deleted: Literal[True] = True


class Listing(BaseModel, Generic[T]):
    """One page. `next_page_token` goes into `after`; the same is told as a `Link` header."""

    object: Literal["list"] = "list"
    data: Sequence[T]
    has_more: bool
    next_page_token: str | None = None


class Paging(BaseModel):
    """Which page is asked for."""

    limit: int = 50
    after: str = ""


def _paging(
    limit: Annotated[int, Query(ge=1, le=200, description="Entries a page.")] = 50,
    after: Annotated[str, Query(max_length=2048, description="`next_page_token` of the page before.")] = "",
    page_token: Annotated[str, Query(max_length=2048, description="Synonym of `after`.")] = "",
) -> Paging:
    return Paging(limit=limit, after=after or page_token)


def _caller(request: Request) -> Authenticated:
    return identity(request.scope)


def _version(
    if_match: Annotated[str | None, Header(description="Version that must be current; else 412.")] = None,
) -> str:
    """The tag of If-Match without quotes; empty: any version will do."""
    if if_match is None or if_match.strip() == "*":
        return ""
    tag = _tag(if_match)
    if not tag or "," in tag:
        raise PlatformError.invalid("If-Match", "If-Match must be one entity tag or *")
    return tag


Caller = Annotated[Authenticated, Depends(_caller)]
Page = Annotated[Paging, Depends(_paging)]
Version = Annotated[str, Depends(_version)]
TenantId = Annotated[str, Query(max_length=63, description="Tenant; default: the caller's.")]
WorkspaceId = Annotated[str, Query(max_length=63, description="Workspace; default: the tenant as a whole.")]


def tenant_of(who: Authenticated, asked: str | None) -> str:
    """The tenant that is meant: the caller's, unless a platform caller names another.

    Anybody else naming another tenant gets what a tenant that does not exist gives.
    """
    if not asked or asked == who.principal.tenant_id:
        return who.principal.tenant_id
    if not who.is_platform:
        raise PlatformError.not_found("tenant", asked)
    return asked


def owner_of(who: Authenticated, asked: str | None) -> str:
    """Owner of a registry row: like `tenant_of`, but "" (the platform) where a platform caller names none."""
    return "" if not asked and who.is_platform else tenant_of(who, asked)


def listing(request: Request, response: Response, data: Sequence[T], next_token: str) -> Listing[T]:
    """A page, with its `Link` header."""
    if next_token:
        others = [
            (name, value) for name, value in request.query_params.multi_items() if name not in ("after", "page_token")
        ]
        response.headers["link"] = f'<{request.url.path}?{urlencode([*others, ("after", next_token)])}>; rel="next"'
    return Listing(data=data, has_more=bool(next_token), next_page_token=next_token or None)


def told(request: Request, response: Response, body: T, etag: str) -> T | Response:
    """The resource with its ETag; 304 without a body where If-None-Match names that version."""
    quoted = f'"{etag}"'
    wanted = request.headers.get("if-none-match")
    if request.method == "GET" and wanted and (wanted.strip() == "*" or etag in map(_tag, wanted.split(","))):
        return Response(status_code=304, headers={"etag": quoted})
    response.headers["etag"] = quoted
    return body


def require_version(current: str, wanted: str) -> None:
    """ETAG_MISMATCH unless `wanted` is empty or current."""
    if wanted and wanted != current:
        raise PlatformError(Reason.ETAG_MISMATCH, "the resource has changed since that version", etag=current)


def moment(stamp: Timestamp, present: bool = True) -> datetime | None:
    """The time in UTC; None where it is absent."""
    return stamp.ToDatetime(tzinfo=UTC) if present else None


def stamp(when: datetime | None) -> Timestamp | None:
    """The protobuf time, None staying None."""
    if when is None:
        return None
    result = Timestamp()
    result.FromDatetime(when.astimezone(UTC))
    return result


def document(text: str) -> dict[str, Any]:
    """A JSON object text as a mapping; {} for no text."""
    value: dict[str, Any] = orjson.loads(text) if text else {}
    return value


def text_of(document: dict[str, Any]) -> str:
    """A mapping as JSON object text."""
    return orjson.dumps(document).decode()


def _tag(text: str) -> str:
    return text.strip().removeprefix("W/").strip('"')


Name = Annotated[str, Field(min_length=1, max_length=200, description="Name to show.")]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="1 to 63 of a-z, 0-9 and '-'.")]
