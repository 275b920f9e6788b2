"""Refused early, by class of work."""

import pytest

from kit.admission import BATCH, CONTROL, INTERACTIVE, Admission, AdmissionConfig, current_class, working_as
from kit.errors import PlatformError, Reason
from tests.unit.kit_rpc.scripted import Clock

pytestmark = pytest.mark.req("PR-033")


def refusal(admission: Admission, work_class: str = INTERACTIVE) -> PlatformError:
    with pytest.raises(PlatformError) as caught, admission.slot(work_class):
        pass
    return caught.value


def test_classes_do_not_take_each_others_places() -> None:
    admission = Admission(AdmissionConfig(interactive=1, batch=1, control=1))
    with admission.slot(INTERACTIVE), admission.slot(BATCH), admission.slot(CONTROL):
        assert admission.in_flight == 3
        error = refusal(admission, BATCH)
    assert (error.reason, error.metadata) == (Reason.OVERLOADED, {"class": "batch"})
    assert admission.in_flight == 0


def test_place_is_given_back_after_an_error() -> None:
    admission = Admission(AdmissionConfig(interactive=1))
    with pytest.raises(ValueError, match="boom"), admission.slot():
        raise ValueError("boom")
    with admission.slot():
        pass


def test_zero_is_no_limit() -> None:
    admission = Admission(AdmissionConfig(interactive=0))
    with admission.slot(), admission.slot(), admission.slot():
        assert admission.in_flight == 3


@pytest.mark.parametrize(("took_s", "retry_after_s"), [(0.1, 1.0), (50.0, 5.0), (10_000.0, 30.0)])
def test_retry_after_grows_with_how_long_calls_take(clock: Clock, took_s: float, retry_after_s: float) -> None:
    admission = Admission(AdmissionConfig(interactive=1), clock=clock)
    with admission.slot():
        clock.forward(took_s)
    with admission.slot():
        assert refusal(admission).retry_after_s == retry_after_s


def test_draining_refuses_everything() -> None:
    admission = Admission()
    admission.draining = True
    for work_class in (INTERACTIVE, BATCH, CONTROL):
        assert refusal(admission, work_class).reason is Reason.DRAINING


def test_class_is_bound_for_a_block() -> None:
    with working_as(BATCH):
        assert current_class() == BATCH
    assert current_class() == INTERACTIVE
