"""The merge of settings layers: limits only narrow, preferences override, origins tell the truth."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import PlatformError, Reason
from kit.settings import Effective, TenantSettings, merge_layers, model_allowed, validate_layer
from kit.settings.globs import intersect, normalize
from kit.settings.schema import fields

NAMES = st.sampled_from(["gpt-4o", "gpt-4o-mini", "claude", "offline", "x&y-free"])
ALIASES = ["gpt-4o", "gpt-4o-mini", "gpt", "claude", "claude-mini", "offline", ""]
GLOBS = st.sampled_from(["*", "gpt-*", "*-mini", "claude*", "gpt-4o", "gpt-4?", "[a-g]*", "offline"])
LISTS = st.lists(GLOBS, max_size=4)
COUNTS = st.integers(min_value=0, max_value=1000)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "requests_per_minute": COUNTS | st.none(),
        "max_output_tokens": COUNTS,
        "tool_calling": st.booleans(),
        "allowed_models": LISTS,
    },
)
PREFERENCES = st.fixed_dictionaries(
    {},
    optional={
        "default_model": st.sampled_from(["a", "b"]),
        "events": st.sampled_from(["named", "envelope", "off"]),
        "auto_thread": st.booleans(),
    },
)
DOCUMENT = st.fixed_dictionaries({}, optional={"limits": LIMITS, "preferences": PREFERENCES})
LAYERS = st.lists(DOCUMENT, max_size=4).map(
    lambda documents: [(f"layer{n}", document) for n, document in enumerate(documents)]
)
Layers = list[tuple[str, dict[str, Any]]]


def told(layers: Layers, group: str, name: str) -> list[tuple[str, Any]]:
    pairs = [(layer, document.get(group, {}).get(name)) for layer, document in layers]
    return [(layer, value) for layer, value in pairs if value is not None]


def limits(merged: Effective) -> dict[str, Any]:
    found: dict[str, Any] = merged.values["limits"]
    return found


@pytest.mark.req("PR-004")
@given(LAYERS)
def test_limits_are_the_narrowest_that_any_layer_tells(layers: Layers) -> None:
    found = limits(merge_layers(layers))
    counts = [value for _, value in told(layers, "limits", "requests_per_minute")]
    assert found["requests_per_minute"] == (min(counts) if counts else None)
    assert found["tool_calling"] is all(value for _, value in told(layers, "limits", "tool_calling"))
    lists = [value for _, value in told(layers, "limits", "allowed_models")]
    for alias in ALIASES:
        expected = all(any_match(globs, alias) for globs in lists)
        assert model_allowed(found["allowed_models"], alias) is expected


def any_match(globs: list[str], alias: str) -> bool:
    return model_allowed(globs, alias)


@given(LAYERS)
def test_limits_do_not_depend_on_the_order_of_layers(layers: Layers) -> None:
    wanted = limits(merge_layers(layers))
    for order in permutations(layers):
        assert limits(merge_layers(order)) == wanted


@given(LAYERS, DOCUMENT)
def test_one_more_layer_never_widens_a_limit(layers: Layers, document: dict[str, Any]) -> None:
    before, after = (merge_layers(some).settings.limits for some in (layers, [*layers, ("more", document)]))
    for name in ("requests_per_minute", "max_output_tokens"):
        old, new = getattr(before, name), getattr(after, name)
        assert old is None or (new is not None and new <= old)
    assert before.tool_calling or not after.tool_calling
    for alias in ALIASES:
        assert model_allowed(before.allowed_models, alias) or not model_allowed(after.allowed_models, alias)


@given(LAYERS)
def test_the_last_layer_that_tells_a_preference_wins(layers: Layers) -> None:
    merged = merge_layers(layers)
    for name in ("default_model", "events", "auto_thread"):
        pairs = told(layers, "preferences", name)
        default = getattr(TenantSettings().preferences, name)
        origin, value = pairs[-1] if pairs else ("built-in", default)
        assert merged.values["preferences"][name] == value
        assert merged.origins[f"preferences.{name}"] == origin


@given(LAYERS)
def test_origins_name_layers_that_hold_the_value(layers: Layers) -> None:
    merged = merge_layers(layers)
    assert set(merged.origins) == set(fields())
    for name in ("requests_per_minute", "max_output_tokens", "tool_calling"):
        origin, value = merged.origins[f"limits.{name}"], limits(merged)[name]
        assert origin == "built-in" or (origin, value) in told(layers, "limits", name)
    narrowed_by = merged.origins["limits.allowed_models"].split("+")
    alone = [pair for pair in layers if pair[0] in narrowed_by]
    assert limits(merge_layers(alone))["allowed_models"] == limits(merged)["allowed_models"]


@given(LAYERS)
def test_what_is_merged_is_valid_and_inputs_stay_as_they_were(layers: Layers) -> None:
    copy = [(name, {group: dict(values) for group, values in document.items()}) for name, document in layers]
    assert isinstance(merge_layers(layers).settings, TenantSettings)
    assert layers == copy


@given(LISTS, LISTS, LISTS)
def test_intersection_is_a_lattice(one: list[str], two: list[str], three: list[str]) -> None:
    assert intersect(one, two) == intersect(two, one)
    assert intersect(intersect(one, two), three) == intersect(one, intersect(two, three))
    assert intersect(one, one) == normalize(one)
    for alias in ALIASES:
        both = model_allowed(one, alias) and model_allowed(two, alias)
        assert model_allowed(intersect(one, two), alias) is both


def test_fields_of_a_newer_release_are_ignored() -> None:
    merged = merge_layers([("newer", {"limits": {"unheard_of": 1, "max_output_tokens": 5}, "more": {}})])
    assert merged.settings.limits.max_output_tokens == 5


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"limits": {"requests_per_minut": 3}}, "limits.requests_per_minut"),
        ({"limits": {"requests_per_minute": -1}}, "limits.requests_per_minute"),
        ({"preferences": {"events": "loud"}}, "preferences.events"),
        ({"security": {"jwt": [{"jwks_url": "x"}]}}, "security.jwt.0.issuer"),
        ({"unknown": {}}, "unknown"),
    ],
)
def test_a_layer_that_does_not_fit_names_its_field(document: dict[str, Any], field: str) -> None:
    with pytest.raises(PlatformError) as caught:
        validate_layer(document)
    assert (caught.value.reason, caught.value.metadata["field"]) == (Reason.INVALID_ARGUMENT, field)


def test_a_valid_layer_keeps_what_it_tells_and_nothing_else() -> None:
    document = {"limits": {"requests_per_minute": 3}, "preferences": {"events": "off"}}
    assert validate_layer(document) == document
