"""The tracker as a service: over real HTTP and a real socket."""

import base64
import http.client
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from tracking_world import detections, person, unit_vectors
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from reid_tracker import Tracker
from reid_tracker.errors import UserError
from reid_tracker.service import sessions as sessions_module
from reid_tracker.service.sessions import Sessions

BOXES = [person(100), person(300)]


class Service:
    """A process that serves."""

    def __init__(self, *options: str, host: str = "127.0.0.1") -> None:
        command = [sys.executable, "-m", "reid_tracker", "serve", f"{host}:0", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.said = self._process.stdout.readline()
        found = re.search(r"http://\S+?:(\d+)", self.said)
        assert found, self._process.communicate()
        self.port = int(found[1])
        self.token = ""
        if "0.0.0.0" in host:
            self.token = self._process.stdout.readline().split()[1]

    def ask(self, path: str, body: object = None, method: str | None = None, token: str | None = None):
        """Status and content of an answer."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        try:
            answer = urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] in b"{[" and text else text.decode()

    def begin(self, **wanted) -> str:
        status, answer = self.ask("/sessions", wanted)
        assert status == 201, answer
        return answer["session"]

    def frame(self, session: str, boxes, **more):
        return self.ask(f"/sessions/{session}/frames", {"boxes": [{"xyxy": each} for each in boxes], **more})

    def end(self) -> str:
        self._process.terminate()
        return self._process.communicate(timeout=20)[1]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    service = Service("--sessions", "10000")
    yield service
    assert "Traceback" not in service.end()


def boxes(*rows):
    return [[float(each) for each in row] for row in rows]


def test_tracks_are_those_of_the_tracker(service):
    """Vectors, confidences, times: two people who swap places while nobody looks."""
    session, tracker = service.begin(frame_rate=10), Tracker(frame_rate=10)
    who = unit_vectors(2)
    for step in range(40):
        order = [1, 0] if step > 20 else [0, 1]
        rows = [] if 15 <= step <= 20 else [*zip(BOXES, who[order], strict=True)]
        given = [{"xyxy": list(map(float, box)), "confidence": 0.9, "vector": vector.tolist()} for box, vector in rows]
        status, answer = service.ask(f"/sessions/{session}/frames", {"time": step / 10, "boxes": given})
        assert status == 200, answer
        array = np.array([[*box, 0.9, 0] for box, _ in rows], float).reshape(-1, 6)
        vectors = np.array([vector for _, vector in rows], np.float32).reshape(-1, 32)
        expected = tracker.update(array, step / 10, embedding=vectors if len(rows) else None)
        assert [each["id"] for each in answer["tracks"]] == expected.tracker_id.tolist()
        assert [each["box"] for each in answer["tracks"]] == expected.data["row"].tolist()
    assert [each["id"] for each in answer["tracks"]] == [2, 1]
    assert service.ask(f"/sessions/{session}")[1]["people"] == 2


def test_sessions_know_nothing_of_each_other_and_end(service):
    one, other = service.begin(), service.begin(tracker={"lost_seconds": 1.5})
    assert service.frame(one, boxes(*BOXES))[1]["tracks"][1]["id"] == 2
    assert service.frame(other, boxes(BOXES[1]))[1]["tracks"][0]["id"] == 1
    assert service.ask(f"/sessions/{one}", method="DELETE") == (204, "")
    status, answer = service.frame(one, boxes(*BOXES))
    assert status == 404 and "no such session" in answer["error"]
    assert service.ask(f"/sessions/{other}")[1]["frames"] == 1


def test_over_a_socket_a_mistake_ends_nothing(service):
    session = service.begin(frame_rate=10)
    with connect(f"ws://127.0.0.1:{service.port}/sessions/{session}/stream") as stream:

        def say(text: str):
            stream.send(text)
            return json.loads(stream.recv(10))

        frame = json.dumps({"boxes": [{"xyxy": each} for each in boxes(*BOXES)]})
        assert [each["id"] for each in say(frame)["tracks"]] == [1, 2]
        assert "cannot be read" in say("{")["error"]
        assert "does not come after" in say('{"time": -5, "boxes": []}')["error"]
        assert [each["id"] for each in say(frame)["tracks"]] == [1, 2]
        service.ask(f"/sessions/{session}", method="DELETE")
        stream.send(frame)
        with pytest.raises(ConnectionClosed, match="no such session"):
            stream.recv(10)


def test_crops_are_described_here(service):
    session = service.begin(frame_rate=10, crops=True)
    rng = np.random.default_rng(0)
    looks = [np.full((96, 48, 3), shade, np.uint8) for shade in ((30, 30, 200), (200, 60, 20))]

    def given(order):
        found = []
        for box, who in zip(boxes(*BOXES), order, strict=True):
            noisy = np.clip(looks[who] + rng.normal(0, 8, looks[who].shape), 0, 255).astype(np.uint8)
            jpeg = cv2.imencode(".jpg", noisy)[1].tobytes()
            found.append({"xyxy": box, "crop": base64.b64encode(jpeg).decode()})
        return found

    for step in range(30):
        order = [1, 0] if step >= 20 else [0, 1]
        now = step / 10 + (2 if step >= 20 else 0)
        status, answer = service.ask(f"/sessions/{session}/frames", {"time": now, "boxes": given(order)})
        assert status == 200, answer
    assert [each["id"] for each in answer["tracks"]] == [2, 1]
    for crop, message in (("AAAA", "not a picture"), ("!", "base64"), ("", "not a picture")):
        frame = {"time": 99, "boxes": [{"xyxy": boxes(BOXES[0])[0], "crop": crop}]}
        status, answer = service.ask(f"/sessions/{session}/frames", frame)
        assert status == 409 and message in answer["error"]


def test_small_crops_of_many_pixels_are_refused_before_they_are_decoded(service):
    session = service.begin(frame_rate=10, crops=True)
    bomb = base64.b64encode(cv2.imencode(".png", np.zeros((5000, 5000, 3), np.uint8))[1].tobytes()).decode()
    frame = {"boxes": [{"xyxy": box, "crop": bomb} for box in boxes(*BOXES)]}
    status, answer = service.ask(f"/sessions/{session}/frames", frame)
    assert status == 409 and "crop 1: has more than 8,554,432 pixels" in answer["error"]


def test_one_who_comes_back_is_renumbered():
    """Recognised a moment after getting a new number; what is remembered for that stays bounded."""
    seen, tracks = OrderedDict(), detections(BOXES)
    for number, expected in ((5, {}), (5, {}), (2, {5: 2}), (2, {})):
        tracks.tracker_id, tracks.data["tracklet"] = np.array([1, number]), np.array([7, 8])
        assert sessions_module._renumbered(seen, tracks) == expected
    for tracklet in range(20_000, 40_000, 2):
        tracks.data["tracklet"] = np.array([tracklet, tracklet + 1])
        sessions_module._renumbered(seen, tracks)
    assert len(seen) == sessions_module.MOST_TRACKLETS


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (b"{", 400),
        (b'{"boxes": [{"xyxy": [0, 0, NaN, 1]}]}', 400),
        (b'{"boxes": [{"xyxy": [0, 0, 1e400, 1]}]}', 400),
        (b'{"boxes": [{"xyxy": [0, 0, 1]}]}', 400),
        (b'{"boxes": [], "more": 1}', 400),
        (b'{"time": "soon", "boxes": []}', 400),
        (json.dumps({"boxes": [{"xyxy": [0, 0, 9, 9], "vector": [1.0] * 5000}]}).encode(), 400),
        (json.dumps({"boxes": [{"xyxy": [0, 0, 9, 9], "vector": [1.0] * k} for k in (1, 2)]}).encode(), 409),
        (json.dumps({"boxes": [{"xyxy": [0, 0, 9, 9], "vector": [1.0], "crop": "AAAA"}]}).encode(), 409),
        (b"[" * 100_000, 400),
    ],
)  # fmt: skip
def test_bad_frames_are_refused_in_a_sentence(service, frame, status):
    session = service.begin()
    answer = service.ask(f"/sessions/{session}/frames", frame)
    assert answer[0] == status
    assert service.frame(session, boxes(BOXES[0]))[0] == 200


def test_a_request_that_is_too_large_is_refused_before_it_is_read(service):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    connection.putrequest("POST", "/sessions")
    connection.putheader("Content-Length", str((1 << 23) + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_vectors_that_are_numbers_too_large_or_of_another_length(service):
    session = service.begin()
    huge = {"xyxy": [0.0, 0.0, 50.0, 100.0], "vector": [1e308, -1e308, 0.0]}
    assert service.ask(f"/sessions/{session}/frames", {"boxes": [huge]})[0] == 200
    longer = {"xyxy": [0.0, 0.0, 50.0, 100.0], "vector": [1.0, 0.0]}
    status, answer = service.ask(f"/sessions/{session}/frames", {"boxes": [longer]})
    assert status == 409 and "one appearance model" in answer["error"]


def test_where_others_can_ask_a_token_is_needed():
    service = Service(host="0.0.0.0")
    try:
        assert service.ask("/openapi.json")[0] == 401
        assert service.ask("/sessions", {})[0] == 401
        assert service.ask("/sessions", {}, token=service.token)[0] == 201
    finally:
        service.end()


def test_unused_sessions_end_and_there_are_not_too_many():
    sessions = Sessions(idle_seconds=0.2, most=2)
    settings = Tracker().settings
    first = sessions.begin(10, settings, crops=False)
    sessions.begin(10, settings, crops=False)
    with pytest.raises(UserError, match="2 sessions are open"):
        sessions.begin(10, settings, crops=False)
    time.sleep(0.25)
    assert len(sessions) == 0
    with pytest.raises(UserError, match="no such session"):
        sessions.get(first)
    sessions.begin(10, settings, crops=False)


def test_it_answers_as_its_description_says(service, tmp_path):
    """Schemathesis makes requests of what the description allows, and of what it forbids."""
    command = ["schemathesis.cli", "run", f"http://127.0.0.1:{service.port}/openapi.json"]
    options = ["--max-examples", "20", "--seed", "1", "--no-color", "--phases", "fuzzing"]  # all phases: 20 s
    found = subprocess.run(
        [sys.executable, "-m", *command, *options],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
