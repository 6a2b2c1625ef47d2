"""What the tracker learns of a network's cosines."""

import numpy as np
import pytest

from reid_tracker.tracking.calibration import (
    STRANGER_MEAN,
    STRANGER_STD,
    AppearanceCalibration,
    Cosines,
    CosineStatistics,
    return_cosine,
)


def test_distance_is_0_for_one_person_and_1_for_strangers():
    calibration = AppearanceCalibration(CosineStatistics(0.8, 0.1, 0.2, 0.1))
    cosine = np.array([0.9, 0.8, 0.5, 0.2, -0.3, np.nan])
    np.testing.assert_allclose(calibration.distance(cosine), [0, 0, 0.5, 1, 1, np.nan])
    assert calibration.cosine(0.5) == pytest.approx(0.5)


def test_nothing_is_trusted_before_enough_was_seen():
    calibration = AppearanceCalibration()
    calibration.learn(np.full(5, 0.9), np.full(1000, 0.1))
    assert calibration.statistics is None
    calibration.learn(np.full(100, 0.9), np.zeros(0))
    known = calibration.statistics
    assert known is not None
    assert (known.same_mean, known.stranger_mean) == (pytest.approx(0.9), pytest.approx(0.1))


def test_vectors_that_tell_nothing_apart_are_not_used():
    calibration = AppearanceCalibration()
    calibration.learn(np.full(100, 0.5), np.full(100, 0.5))
    assert calibration.statistics is None


def test_a_model_s_own_statistics_serve_until_the_video_has_shown_enough():
    given = CosineStatistics(0.8, 0.1, 0.2, 0.1)
    calibration = AppearanceCalibration(given)
    calibration.learn(np.full(10, 0.9), np.full(10, 0.5))
    assert calibration.statistics == given
    calibration.learn(np.full(100, 0.9), np.full(100, 0.5))
    assert calibration.statistics.stranger_mean == pytest.approx(0.5)


def test_a_covered_crop_is_measured_by_what_such_crops_have_in_common_with_their_person():
    calibration = AppearanceCalibration(CosineStatistics(0.8, 0.1, 0.2, 0.1, covered=[1.0, 0.9, 0.5, 0.4, 0.3]))
    np.testing.assert_allclose(calibration.quality(np.array([0, 0.1, 0.4, 0.8, 1.0])), [1, 0.95, 0.5, 0.3, 0.3])
    cosine = np.array([0.8, 0.5, 0.35, 0.2])
    np.testing.assert_allclose(calibration.distance(cosine, 1.0), [0, 0.5, 0.75, 1])
    np.testing.assert_allclose(calibration.distance(cosine, 0.5), [0, 0, 0.5, 1])
    whole, hidden = AppearanceCalibration().quality(np.array([0, 0.9]))  # without a model's own figures
    assert whole == 1 > hidden > 0


def test_distributions_are_exact_until_memory_is_full_and_then_follow():
    values = np.random.default_rng(0).normal(3, 2, 900)
    cosines = Cosines()
    for part in np.split(values, 9):
        cosines.learn(part)
    assert cosines.centre == pytest.approx(values.mean()) and cosines.std == pytest.approx(values.std())
    for _ in range(1200):
        cosines.learn(np.full(100, 7.0))
    assert cosines.centre == pytest.approx(7, abs=0.02) and cosines.count[0] == Cosines.MEMORY


def test_the_cosine_for_a_return_rises_with_the_people_known_and_falls_with_the_rate():
    rates = [return_cosine(rate, np.array([1, 10, 1000])) for rate in (0.001, 0.05, 0.5)]
    assert all((np.diff(each) > 0).all() for each in rates)
    assert (np.diff(rates, axis=0) < 0).all()
    # Of strangers whose cosines are as the constants say, the most similar of ten exceeds it as often as asked.
    cosines = np.random.default_rng(0).normal(STRANGER_MEAN, STRANGER_STD, (20_000, 10)).max(axis=1)
    assert np.mean(cosines > rates[1][1]) == pytest.approx(0.05, abs=0.006)


@pytest.mark.parametrize(("mean", "std"), [(STRANGER_MEAN, STRANGER_STD), (0.0, 0.1), (0.2, 0.15)])
def test_the_cosine_for_a_return_has_the_quantiles_it_was_measured_with_and_is_never_impossible(mean, std):
    """Among a million people and at one in a million, too, somebody alike enough is recognised."""
    statistics = CosineStatistics(0.7, 0.1, 0.1, 0.1, mean, std)
    for rate, deviations in ((0.01, 2.3263), (0.001, 3.0902)):
        expected = mean + deviations * std
        assert return_cosine(rate, np.array([1]), statistics)[0] == pytest.approx(expected, abs=1e-3)
    assert return_cosine(1e-6, np.array([10**6]), statistics)[0] < 1


@pytest.mark.parametrize(("mean", "std"), [(0.9, 0.3), (-0.9, 0.001), (-0.3, 0.9), (0.0, 1e-5)])
def test_odd_statistics_of_strangers_give_a_cosine_all_the_same(mean, std):
    statistics = CosineStatistics(0.7, 0.1, 0.1, 0.1, mean, std)
    cosines = return_cosine(0.01, np.array([1, 10, 1000]), statistics)
    assert np.isfinite(cosines).all() and (np.abs(cosines) <= 1).all() and (np.diff(cosines) >= 0).all()
