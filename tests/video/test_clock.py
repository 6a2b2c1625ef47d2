"""Whatever timestamps say, time goes on, and as they say it where they can be believed."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_tracker.video.clock import AHEAD, Clock

RATE = 25.0
TRUE = [each / RATE for each in range(60)]


def times(stamps):
    clock = Clock(RATE)
    given_back = list(clock.run((index, stamp, index) for index, stamp in enumerate(stamps)))
    assert [index for index, _, _ in given_back] == [anything for _, _, anything in given_back] == [*range(len(stamps))]
    return [time for _, time, _ in given_back], clock


@pytest.mark.parametrize("leap", [37_600, 0.5, -0.5, -100, 1.7e9, 0.041])
@pytest.mark.parametrize("wrong", [1, 2, 5])
def test_a_leap_that_is_taken_back_is_none(leap, wrong):
    stamps = [time + leap * (30 <= index < 30 + wrong) for index, time in enumerate(TRUE)]
    found, clock = times(stamps)
    np.testing.assert_allclose(found, TRUE, atol=wrong / RATE)
    assert found[:30] == TRUE[:30] and np.allclose(found[30 + wrong + 1 :], TRUE[30 + wrong + 1 :])
    assert clock.sets == 0 and 0 < clock.repaired <= wrong + 2


@pytest.mark.parametrize("gap", [2.0, 7_200, 25_200])
def test_a_gap_is_kept(gap):
    found, clock = times([time + gap * (index >= 36) for index, time in enumerate(TRUE)])
    assert found == [time + gap * (index >= 36) for index, time in enumerate(TRUE)]
    assert (clock.repaired, clock.sets) == (0, 0)


@pytest.mark.parametrize("shift", [1.7e9, -3.0, -1.7e9, -50.0])
def test_a_clock_that_was_set_goes_on_evenly(shift):
    found, clock = times([time + shift * (index >= 36) for index, time in enumerate(TRUE)])
    np.testing.assert_allclose(found, TRUE, atol=1e-6)
    assert (clock.repaired, clock.sets, clock.first_set) == (0, 1, 36)


def test_a_clock_that_stands_tells_no_time():
    """As written by a muxer that was given older times: each a tick after the one before."""
    stamps = [time if index < 36 else TRUE[35] + (index - 35) / 90_000 for index, time in enumerate(TRUE)]
    found, clock = times(stamps)
    np.testing.assert_allclose(found, TRUE, atol=1e-3)
    assert clock.repaired == 24
    burst = [time if index != 30 else TRUE[29] + 1e-3 for index, time in enumerate(TRUE)]  # a late frame is believed
    assert times(burst)[0] == burst


def test_missing_and_repeated_timestamps_lie_between_their_neighbours():
    found, clock = times([None if index in (3, 4, 20) else time for index, time in enumerate(TRUE)])
    np.testing.assert_allclose(found, TRUE, atol=1.01 / RATE)
    assert clock.repaired == 3
    assert times([None] * 5)[0] == pytest.approx(TRUE[:5])
    assert times([])[0] == []


def test_a_wrong_first_timestamp_spoils_no_other():
    found, _ = times([9_000.0, *TRUE[1:]])
    np.testing.assert_allclose(found, TRUE)


@given(
    st.lists(
        st.one_of(st.none(), st.floats(-1e10, 1e10), st.integers(0, 50).map(lambda each: each / RATE)), max_size=60
    )
)
def test_time_always_increases(stamps):
    found, _ = times(stamps)
    assert all(math.isfinite(time) for time in found)
    assert all(one < two for one, two in pairwise(found))


@given(st.data())
def test_defects_are_forgotten(data):
    """However the timestamps are spoilt in one place, some frames later all is as it was, but for a shift."""
    place = data.draw(st.integers(0, 30))
    spoilt = data.draw(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=AHEAD - 1))
    stamps: list[float | None] = list(TRUE)
    stamps[place : place + len(spoilt)] = spoilt
    found, _ = times(stamps)
    np.testing.assert_allclose(np.diff(found)[place + 2 * AHEAD :], 1 / RATE, atol=1e-6)
