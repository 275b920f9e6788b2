"""Ids are ordered and unguessable; page tokens are opaque and checked."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import PlatformError, Reason
from kit.ids import is_uuid, new_id, new_uuid
from kit.paging import decode_token, encode_token, page_size


def test_uuids_are_version_7_and_ordered() -> None:
    made = [new_uuid() for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {uuid.UUID(text).version for text in made} == {7}
    assert {uuid.UUID(text).variant for text in made} == {uuid.RFC_4122}


@pytest.mark.parametrize(("prefix", "head"), [("key", "key_"), ("key_", "key_"), ("chatcmpl-", "chatcmpl-")])
def test_prefixed_ids(prefix: str, head: str) -> None:
    made = new_id(prefix)
    assert made.startswith(head)
    assert len(made) == len(head) + 24
    assert made != new_id(prefix)


UUID = "01a208fc-2061-77a6-a4d3-7eeb463325aa"


@pytest.mark.parametrize(("text", "expected"), [(UUID, True), ("run_1", False), ("", False), (f"{{{UUID}}}", False)])
def test_is_uuid(text: str, expected: bool) -> None:
    assert is_uuid(text) is expected


@given(st.lists(st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1)), max_size=4))
def test_tokens_hold_what_was_put_in(parts: list[str | int]) -> None:
    encodable = [part for part in parts if not isinstance(part, str) or part.isprintable()]
    token = encode_token(*encodable)
    assert decode_token(token, len(encodable)) == tuple(encodable)


def test_empty_token_is_the_first_page() -> None:
    assert decode_token("", 2) == ()


@pytest.mark.parametrize("token", ["%%%", "abc", "bnVsbA", encode_token("one"), encode_token("a", "b", "c")])
def test_foreign_token_is_refused(token: str) -> None:
    with pytest.raises(PlatformError) as caught:
        decode_token(token, 2)
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert caught.value.metadata["field"] == "page_token"


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (200, 200), (5000, 200)])
def test_page_size(asked: int, given_: int) -> None:
    assert page_size(asked) == given_


def test_negative_page_size_is_refused() -> None:
    with pytest.raises(PlatformError, match="negative"):
        page_size(-1)
