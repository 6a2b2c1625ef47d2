"""Several cameras, one detector, one memory of people; and a gallery that outlives the run."""

import json
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress

import cv2
import numpy as np
from live_world import COLORS, ColorDetector, ColorEmbedder, free_port, picture, wait_until

from reid_tracker.config import LiveConfig, load
from reid_tracker.gallery.opening import open_gallery
from reid_tracker.live.loop import LiveLoop
from reid_tracker.live.people import People
from reid_tracker.live.run import run_live
from reid_tracker.video.frames import Frame


class Film:
    """A camera that shows what it is given."""

    status = "live"

    def __init__(self, name, images):
        self.name = name
        self._images = iter(enumerate(images))

    def take(self):
        index, image = next(self._images, (0, None))
        return None if image is None else (Frame(image, index, 0.1 * index), 0.1 * index)


class BatchDetector(ColorDetector):
    """Notes how many frames it is given at once."""

    def __init__(self):
        self.sizes = []

    def detect_batch(self, frames):
        self.sizes.append(len(frames))
        return [self.detect(frame) for frame in frames]


def half(index, left):
    """What a camera sees that shows one side of the world; between the two is a strip that neither sees."""
    image = picture(index)
    image[:, 165 if left else 0 : 320 if left else 185] = 25
    if not left:
        image[100:160, 270:294] = COLORS["green"]  # somebody stands there too
    return image


def test_whoever_walks_from_one_camera_to_the_other_keeps_the_number():
    config = load(LiveConfig, None, {"tracker.lost_seconds": 0.3})
    seen = {"left": {}, "right": {}}
    embedder, detector = ColorEmbedder(), BatchDetector()

    def put(place, result, arrived):
        names = [embedder.embed(result.frame.image, box[None]).argmax() for box in result.tracks.xyxy]
        for name, number in zip(names, result.tracks.tracker_id.tolist(), strict=True):
            seen["left" if place == 0 else "right"][int(name)] = number  # the last counts

    cameras = [Film("left", [half(index, True) for index in range(95)])]
    cameras.append(Film("right", [half(index, False) for index in range(95)]))
    loop = LiveLoop(cameras, detector, embedder, config, People(), put, embedder.statistics)
    while loop.step():
        pass
    assert detector.sizes == [2] * 95  # one call for both cameras
    red, blue = 0, 2
    assert seen["left"][red] == seen["right"][red] and seen["left"][blue] == seen["right"][blue]
    assert len({*seen["left"].values(), *seen["right"].values()}) == 4


def test_a_camera_lost_for_long_is_no_mistake_of_units(caplog):
    class Lost(Film):
        def take(self):
            taken = super().take()
            return taken and (Frame(taken[0].image, taken[0].index, 100.0 * taken[0].index), 100.0 * taken[0].index)

    config = load(LiveConfig, None, {"embedder.enabled": False})
    loop = LiveLoop([Lost("door", [picture(0)] * 3)], BatchDetector(), None, config, People(), lambda *_: None)
    while loop.step():
        pass
    assert not caplog.messages


def test_a_gallery_knows_people_and_their_names_in_the_next_run(serve, tmp_path):
    url = serve("mjpeg").url

    def run(while_it_runs):
        port, started, stopping = free_port(), threading.Event(), threading.Event()
        settings = {"output.serve": f":{port}", "gallery.where": str(tmp_path / "gallery"), "gallery.save_seconds": 0.5}
        options = {"detector": ColorDetector(), "embedder": ColorEmbedder(), "stopping": stopping}
        options["started"] = lambda address: started.set()
        thread = threading.Thread(
            target=run_live, args=([url], load(LiveConfig, None, settings)), kwargs=options, daemon=True
        )
        thread.start()
        assert started.wait(60)

        def ask(path, body=None):
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.read()

        try:
            while_it_runs(ask)
        finally:
            stopping.set()
            thread.join(20)

    def standing(ask):
        """Whoever wears green: they stand still, while the others leap back as the film begins anew."""
        for person in json.loads(ask("/people")):
            with suppress(urllib.error.HTTPError):  # no crop yet, or just known as somebody else
                crop = cv2.imdecode(np.frombuffer(ask(f"/people/{person['person']}/crop"), np.uint8), cv2.IMREAD_COLOR)
                if crop.reshape(-1, 3).mean(axis=0).argmax() == 1:
                    return person
        return {}

    numbers = []

    def name(ask):
        wait_until(lambda: standing(ask))
        numbers.append(standing(ask)["person"])
        ask(f"/people/{numbers[0]}/name", {"name": "Ada"})  # before anybody is enrolled
        time.sleep(1.5)

    run(name)
    gallery = open_gallery(tmp_path / "gallery")
    people = {person.number: person.name for person in gallery.people()}
    assert people[numbers[0]] == "Ada" and len(people) >= 3 and set(people.values()) == {"Ada", None}
    gallery.close()

    def look(ask):
        wait_until(lambda: {"person": numbers[0], "name": "Ada"}.items() <= standing(ask).items())

    run(look)


def test_frames_of_several_cameras_are_found_and_described_as_one_by_one(tiny_yolo):
    from reid_tracker import Embedder, YoloDetector

    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (*size, 3), dtype=np.uint8) for size in ((96, 128), (64, 64), (96, 128))]
    frames = [Frame(image, index, float(index)) for index, image in enumerate(images)]
    detector, embedder = YoloDetector(tiny_yolo, classes=["all"], confidence=0.3), Embedder()
    together = detector.detect_batch(frames)
    boxes = [found.xyxy[:4] for found in together]
    boxes[1] = boxes[1][:0]
    vectors = embedder.embed_batch(images, boxes)
    for frame, found, box, vector in zip(frames, together, boxes, vectors, strict=True):
        alone = detector.detect(frame)
        assert len(alone)
        np.testing.assert_allclose(found.xyxy, alone.xyxy, atol=0.1)
        np.testing.assert_allclose(vector, embedder.embed(frame.image, box), atol=1e-3)
