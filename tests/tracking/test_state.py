"""A tracker that was saved and restored goes on as if nothing had been."""

import numpy as np
import pytest
from tracking_world import detections, person, seen, unit_vectors

from reid_tracker import Tracker, TrackerSettings, UserError
from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.tracking.state import TrackerState

FRAMES = 300


def scene():
    """Six people who come, cross, leave and return elsewhere, on a picture that shakes: detections and images."""
    looks, rng, frames = unit_vectors(6), np.random.default_rng(3), []
    texture = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    for number in range(FRAMES):
        here, shake = [], rng.integers(0, 6)
        for who in range(6):
            # Everyone is away for a while, each at another time; the first two for long.
            if (number - 40 * who) % 240 < (150 if who < 2 else 200):
                side = 60 * who + (300 if number > 200 else 0)
                here.append((who, person(side + 40 * np.sin(number / 15 + who) + rng.normal(0, 1), 80 + 3 * who)))
        embedding = seen(looks[[who for who, _ in here]], rng)
        boxes = [np.add(box, [shake, 0, shake, 0]) for _, box in here]
        confidence = rng.uniform(0.2, 1, len(here))
        image = np.roll(texture, shake, axis=1)
        frames.append((detections(boxes, confidence, embedding), image))
    return frames


def run(tracker, frames, first=0):
    for number, (boxes, image) in enumerate(frames, start=first):
        tracks = tracker.update(boxes, 0.1 * (number + 1), image)
        yield tracks.tracker_id.tolist(), tracks.data["tracklet"].tolist(), tracks.xyxy.tolist(), tracker.identities


def test_restored_it_goes_on_exactly_the_same(tmp_path):
    frames, cuts, length = scene(), (0, 60, 150, 200), 60
    statistics = CosineStatistics(0.8, 0.1, 0.1, 0.1)
    tracker = Tracker(TrackerSettings(lost_seconds=1.0, camera_motion=True), 10, statistics)
    whole, kept, returns, known = [], {}, [], {}
    for number in range(FRAMES):
        if number in cuts:
            kept[number] = tracker.state()
            kept[number].save(tmp_path / "deep" / str(number), "model")
        whole += run(tracker, frames[number : number + 1], number)
        for identity, tracklet in zip(*whole[-1][:2], strict=True):
            if known.setdefault(identity, tracklet) != tracklet:
                known[identity] = tracklet
                returns.append(number)
    for cut in cuts:
        # From a file, and from what stayed in memory while the first one went on.
        for state in (TrackerState.load(tmp_path / "deep" / str(cut), "model"), kept[cut]):
            restored = list(run(Tracker.restore(state), frames[cut : cut + length], cut))
            assert restored == whole[cut : cut + length]
    # Somebody known before a cut returns after it, by appearance: else the memory would not have mattered.
    assert any(cut < number < cut + length for number in returns for cut in cuts[1:])


def test_only_the_same_model_may_go_on(tmp_path):
    Tracker().state().save(tmp_path / "state", "one")
    for other in ("another", None):
        with pytest.raises(UserError, match="another appearance model"):
            TrackerState.load(tmp_path / "state", other)


def test_a_state_of_an_earlier_version_goes_on():
    tracker = Tracker()
    list(run(tracker, scene()[:20]))
    state = tracker.state()
    new = ("motion_noise", "lag", "foresight", "same", "strangers")
    initial = {name: each for name, each in Tracker().state().arrays.items() if name.split(".")[0] in new}
    later = {"table.resembles", "table.residual", *initial}
    older = {name: array for name, array in state.arrays.items() if name not in later}
    assert len(older) == len(state.arrays) - len(later)
    frames = scene()[20:40]
    old_header = state.header | {"settings": {**state.header["settings"], "a_setting_that_is_gone": 0.6}}
    of_before = Tracker.restore(TrackerState(old_header, older))
    of_now = Tracker.restore(TrackerState(state.header, state.arrays | initial))
    assert list(run(of_before, frames, 20)) == list(run(of_now, frames, 20))


def test_other_settings_may_be_given():
    state = Tracker(TrackerSettings(lost_seconds=9)).state()
    assert Tracker.restore(state).settings.lost_seconds == 9
    assert Tracker.restore(state, TrackerSettings(lost_seconds=2)).settings.lost_seconds == 2


def test_damaged_and_foreign_files(tmp_path):
    tracker, path = Tracker(), tmp_path / "state"
    list(run(tracker, scene()[:20]))
    tracker.state().save(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    for content, words in ((whole[:-50], "not a readable"), (b"hello", "not a readable"), (flipped, "damaged")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            TrackerState.load(path)
    with pytest.raises(UserError, match="no such file"):
        TrackerState.load(tmp_path / "none")
    TrackerState({}, {}).save(path)
    with pytest.raises(UserError, match="not whole"):
        Tracker.restore(TrackerState.load(path))
    state = tracker.state()
    for name in ("table.mean", "memory.views"):
        less = {each: array for each, array in state.arrays.items() if each != name}
        with pytest.raises(UserError, match="not whole"):
            Tracker.restore(TrackerState(state.header, less))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        state.save(tmp_path / "folder")
