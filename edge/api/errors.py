"""Errors as responses, and the framework's own errors (404, 405, validation) in the same shape."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edge.middleware.errors import rendered
from kit.errors import PlatformError, Reason


def error_response(error: PlatformError) -> Response:
    """The error as a response."""
    status, headers, body = rendered(error)
    response = Response(body, status)
    response.raw_headers = headers
    return response


def install(app: FastAPI) -> None:
    """Give the errors that the framework makes itself the same shape."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, PlatformError):
        return error_response(error.__cause__)  # raised while FastAPI read the body, and wrapped by it
    where = f"{request.method} {request.url.path}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        return error_response(PlatformError(Reason.NOT_FOUND, f"there is no route {where}", resource="route"))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response = error_response(
            PlatformError(Reason.METHOD_NOT_ALLOWED, f"{where} is not allowed", method=request.method)
        )
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response
    return error_response(PlatformError(Reason.MALFORMED_REQUEST, str(error.detail)))


async def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(_of_validation(error))


def _of_validation(error: RequestValidationError) -> PlatformError:
    problems: Sequence[Any] = error.errors()
    first = problems[0]
    if first["type"] == "json_invalid":
        return _malformed(first, error.body)
    if first["loc"] == ("body",):
        return PlatformError(Reason.MALFORMED_REQUEST, "the body must be a JSON object (content-type application/json)")
    told = "; ".join(f"{_dotted(problem['loc'])}: {problem['msg']}" for problem in problems[:10])
    return PlatformError(Reason.INVALID_ARGUMENT, told, field=_dotted(first["loc"]))


def _malformed(problem: Any, body: Any) -> PlatformError:
    """`loc` is ("body", offset): told as line and column, counted from 1."""
    text, offset = body if isinstance(body, str) else "", int(problem["loc"][-1])
    line = text.count("\n", 0, offset) + 1
    column = offset - (text.rfind("\n", 0, offset) + 1) + 1
    what = problem.get("ctx", {}).get("error", "invalid")
    return PlatformError(
        Reason.MALFORMED_REQUEST,
        f"the body is not JSON: {what} at line {line}, column {column}",
        line=str(line),
        column=str(column),
    )


def _dotted(location: Sequence[str | int]) -> str:
    """("body", "roles", 0) -> "roles[0]"."""
    dotted = ""
    for part in location[1:] or location:
        if isinstance(part, int):
            dotted += f"[{part}]"
        else:
            dotted += f".{part}" if dotted else part
    return dotted
