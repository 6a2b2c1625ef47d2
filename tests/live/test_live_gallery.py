"""The gallery of a live run: it may be locked, forgotten from or merged in by others, and nobody waits for it."""

import sqlite3
import time

import numpy as np
import pytest
import supervision as sv
from live_world import wait_until
from tracking_world import detections, person, unit_vectors

from reid_tracker.config import LiveConfig, load
from reid_tracker.errors import UserError
from reid_tracker.gallery import sqlite_file
from reid_tracker.gallery.recorder import GalleryMemory
from reid_tracker.gallery.sqlite_file import FILE
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Model, Sighting, View
from reid_tracker.live import gallery as live_gallery
from reid_tracker.live.gallery import LiveGallery
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import FrameResult

WHO = unit_vectors(8).astype(np.float32)


class Run:
    """A live run's gallery, and a camera before which these people stand."""

    def __init__(self, folder, **settings):
        self.gallery = SqliteGallery(folder, Model("a", WHO.shape[1]))
        self.memory = GalleryMemory(self.gallery, reserve=4)
        config = load(LiveConfig, None, {"gallery.save_seconds": 0.1, "tracker.return_seconds": 0.5} | settings)
        self.live = LiveGallery(self.gallery, ["hall"], config, self.memory)
        self.told = {}
        self.live.follow(self.told.update)
        self.index = 0

    def see(self, *numbers, frames=20):
        """Show people of these numbers; the longest that one frame took, s."""
        longest = 0.0
        for _ in range(frames):
            image = np.random.default_rng(self.index).integers(0, 255, (130, 1000, 3), dtype=np.uint8)
            tracks = detections([person(100 * number) for number in numbers], embedding=WHO[list(numbers)])
            tracks.tracker_id, tracks.data["tracklet"] = np.array(numbers), np.array(numbers)
            result = FrameResult(Frame(image, self.index, self.index / 10), tracks, sv.Detections(tracks.xyxy))
            start = time.monotonic()
            self.live.write(0, result)
            longest = max(longest, time.monotonic() - start)
            self.index += 1
        return longest


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(sqlite_file, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(live_gallery, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(live_gallery, "GRANT_SECONDS", 0.2)


def test_a_gallery_that_cannot_be_written_for_a_while_costs_nobody(tmp_path, impatient, caplog):
    run = Run(tmp_path / "people")
    other = sqlite3.connect(tmp_path / "people" / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # another program holds it
    numbers = run.memory.new_identities(3).tolist()  # newcomers get theirs all the same
    assert run.see(*numbers) < 0.3
    run.live.name(numbers[0], "Ada")
    wait_until(lambda: "in use by another program" in caplog.text)
    assert run.see(*numbers) < 0.3
    assert not run.gallery.people()
    with pytest.raises(UserError, match="in use"):  # the reserve has an end, which is said
        run.memory.new_identities(3)
    other.execute("ROLLBACK")
    wait_until(lambda: [each.name for each in run.gallery.people()] == ["Ada", None, None])
    views = [len(run.gallery.views(number)) for number in numbers]
    assert min(views) >= 6  # also of the time before
    run.live.close()
    assert caplog.text.count("in use by another program") == 1
    run.gallery.close()
    again = SqliteGallery(tmp_path / "people")
    assert again.new_numbers() == [4]  # what was held ready is given back
    again.close()
    other.close()


def test_a_running_gallery_learns_of_the_forgotten_and_merged(tmp_path, impatient):
    run = Run(tmp_path / "people")
    numbers = run.memory.new_identities(3).tolist()
    run.see(*numbers)
    wait_until(lambda: len(run.gallery.people()) == 3)
    other = SqliteGallery(tmp_path / "people")
    other.forget([numbers[0]])
    other.merge(numbers[1], numbers[2])
    run.see(*numbers)
    wait_until(lambda: run.told == {numbers[0]: None, numbers[2]: numbers[1]})
    run.memory.absorb()
    assert run.memory.lasting == {numbers[1]}
    run.see(*numbers)
    run.live.close()
    assert [each.number for each in other.people()] == [numbers[1]]
    run.gallery.close()
    other.close()


def test_retention_goes_on_while_it_runs(tmp_path, impatient, monkeypatch):
    monkeypatch.setattr(live_gallery, "RETENTION_SECONDS", 0.2)
    run = Run(tmp_path / "people", **{"gallery.retention_days": 1.0})
    run.gallery.enrol({number: Sighting([View(WHO[number])], 1, when) for number, when in ((6, 2), (7, time.time()))})
    wait_until(lambda: [each.number for each in run.gallery.people()] == [7])
    run.live.close()
    run.gallery.close()
