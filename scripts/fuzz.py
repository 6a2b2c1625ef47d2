"""Spoil files that come from outside at random, and read them: each must be read, or refused in one sentence.

    python scripts/fuzz.py [--rounds 200] [--seed 0] [--kind state ...]

Bytes are changed, cut, repeated or removed; in texts and tables values are put in place of others that no writer would
write. Anything but a result or a `UserError` is a fault, as is a reading of more than ten seconds; memory is limited,
so that a file that asks for gigabytes ends in an error too. The kinds: mot (text), info (seqinfo.ini), settings (YAML),
video, state, gallery, model (appearance checkpoint), recorded (detections); http and socket_message, what is sent to a
live page: it is answered or cut off without an error of the server, which then answers a sound request.
"""

import argparse
import json
import logging
import re
import resource
import socket
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import supervision as sv
from safetensors.numpy import load_file, save_file

from reid_tracker import Embedder, RecordedDetections, Tracker, UserError, open_source
from reid_tracker.config import TrackConfig, load
from reid_tracker.gallery.sqlite_file import FILE
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Model, Sighting, View
from reid_tracker.live.events import EventLog
from reid_tracker.live.people import People
from reid_tracker.live.server import Page
from reid_tracker.motchallenge import read_rows, read_sequence_info
from reid_tracker.tracking.state import TrackerState
from reid_tracker.web.guard import listen
from reid_tracker.weights import APPEARANCE

MEMORY = 6 << 30  # bytes of address space; torch alone takes two
SECONDS = 10.0
ODD = ("nan", "inf", "-1", "1e300", "1e-300", "99999999999999999999", "", "x", "\x00", "[", "{", "-0", "\ud7ff", "1_0")
Random = np.random.Generator


def spoil(data: bytes, random: Random) -> bytes:
    """One to four defects."""
    for _ in range(random.integers(1, 5)):
        at, length = int(random.integers(0, len(data) + 1)), int(random.integers(1, 200))
        kind = random.integers(0, 5)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + random.bytes(length) + data[at + length :]
        elif kind == 2:
            data = data[:at] + data[at + length :]
        elif kind == 3:
            data = data[:at] + data[at : at + length] * 3 + data[at + length :]
        else:
            data = data[:at] + random.choice(ODD).encode() + data[at + 1 :]
    return data


def spoil_text(text: str, random: Random) -> bytes:
    """Odd values in place of some words; sometimes bytes as well."""
    words = re.split(r"([^\w.-])", text)
    for _ in range(random.integers(1, 4)):
        words[2 * random.integers(0, (len(words) + 1) // 2)] = str(random.choice(ODD))
    data = "".join(words).encode("utf-8", "surrogatepass")
    return spoil(data, random) if random.random() < 0.3 else data


def mot(folder: Path, random: Random) -> None:
    text = "\n".join(f"{frame},{who},{9 * who},10,20,40,0.9,1,1" for frame in range(1, 9) for who in range(1, 4))
    (folder / "gt.txt").write_bytes(spoil_text(text, random))
    read_rows(folder / "gt.txt")


def info(folder: Path, random: Random) -> None:
    text = "[Sequence]\nname=a\nimDir=img1\nframeRate=25\nseqLength=9\nimWidth=64\nimHeight=48\nimExt=.jpg\n"
    (folder / "seqinfo.ini").write_bytes(spoil_text(text, random))
    read_sequence_info(folder)
    sum(1 for _ in open_source(folder))


def settings(folder: Path, random: Random) -> None:
    text = (
        "tracker:\n  lost_seconds: 3\n  memory_seconds: 60\noutput:\n  video: true\nsource:\n  fps: 25\n  roi: null\n"
    )
    (folder / "a.yaml").write_bytes(spoil_text(text, random))
    load(TrackConfig, folder / "a.yaml")


def video(folder: Path, random: Random) -> None:
    ending = str(random.choice([".mp4", ".mkv", ".ts", ".avi"]))
    with av.open(str(folder / f"whole{ending}"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(12):
            image = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    (folder / f"a{ending}").write_bytes(spoil((folder / f"whole{ending}").read_bytes(), random))
    previous = -1.0
    for frame in open_source(folder / f"a{ending}"):
        assert frame.image is not None and frame.timestamp > previous
        previous = frame.timestamp


def _odd(array: np.ndarray, random: Random) -> np.ndarray:
    """One number that is none, nothing but zeros, other kinds of numbers, or another shape."""
    array, kind = array.copy(), random.integers(0, 5)
    if kind == 0 and array.dtype.kind == "f" and array.size:
        array.reshape(-1)[random.integers(0, array.size)] = random.choice([np.nan, np.inf, 1e30])
    elif kind == 1:
        array = np.zeros_like(array)
    elif kind == 2:
        array = array.astype(np.int64 if array.dtype.kind == "f" else np.float32)
    elif kind == 3 and array.ndim:
        array = array[..., :-1]
    elif array.dtype.kind in "iu" and array.size:
        array = -array.astype(np.int64) - 5
    return np.ascontiguousarray(array)


def _spoil_tensors(whole: Path, file: Path, random: Random) -> None:
    """Odd arrays, odd headers or odd bytes in a safetensors file."""
    if random.random() < 0.3:
        file.write_bytes(spoil(whole.read_bytes(), random))
        return
    size = int.from_bytes(whole.read_bytes()[:8], "little")
    header = json.loads(whole.read_bytes()[8 : 8 + size]).get("__metadata__", {})
    arrays = load_file(whole)
    name = str(random.choice(sorted(arrays)))
    kind = random.integers(0, 3)
    if kind == 0:
        arrays[name] = _odd(arrays[name], random)
    elif kind == 1:
        arrays.pop(name)
    elif header:
        key = str(random.choice(sorted(header)))
        header[key] = spoil_text(header[key], random).decode("utf-8", "replace")
    save_file(arrays, file, metadata=header)


def state(folder: Path, random: Random) -> None:
    whole = folder.parent / "whole.state"
    if not whole.exists():
        tracker = Tracker(frame_rate=10)
        vectors = np.eye(3, 8, dtype=np.float32)
        for step in range(30):
            boxes = np.array([[50 * who + step, 10, 50 * who + step + 20, 60] for who in range(3)], np.float32)
            kept = slice(0, 3 if step < 20 else 1)
            found = sv.Detections(boxes[kept], confidence=np.full(3, 0.9, np.float32)[kept])
            found.data["embedding"] = vectors[kept]
            tracker.update(found)
        tracker.state().save(whole)
    if random.random() < 0.3:
        _spoil_tensors(whole, folder / "a.state", random)
    else:  # by somebody who also makes the checksum right
        known = TrackerState.load(whole)
        name = str(random.choice(sorted(known.arrays)))
        known.arrays[name] = _odd(known.arrays[name], random)
        known.save(folder / "a.state")
    tracker = Tracker.restore(TrackerState.load(folder / "a.state"))
    for _ in range(3):
        tracker.update(sv.Detections(np.array([[0, 0, 20, 50]], np.float32), confidence=np.array([0.9], np.float32)))


def gallery(folder: Path, random: Random) -> None:
    opened = SqliteGallery(folder / "g", Model("a", 8))
    for number in range(1, 5):
        vectors = [np.roll(np.eye(1, 8, dtype=np.float32)[0], number + each) for each in range(3)]
        opened.enrol({number: Sighting([View(each, b"jpeg", "cam", 1.0, 0.5) for each in vectors], 1.0, 2.0)})
    opened.close()
    file = folder / "g" / FILE
    if random.random() < 0.5:
        file.write_bytes(spoil(file.read_bytes(), random))
    else:
        with sqlite3.connect(file) as database:
            table, columns = [
                ("views", ["vector", "crop", "source", "time", "quality", "number"]),
                ("people", ["name", "first_seen", "last_seen", "class_id"]),
                ("header", ["value"]),
                ("gone", ["became"]),
            ][random.integers(0, 4)]
            values = [None, "x", -1, 1e300, b"", b"\0" * 7, "../../x", 2**62, "nan", float("inf")]
            value = values[random.integers(0, len(values))]
            column = str(random.choice(columns))
            database.execute(
                f"UPDATE {table} SET {column} = ? WHERE rowid % 2"
                if table == "views"
                else f"UPDATE {table} SET {column} = ?",
                (value,),
            )
    opened = SqliteGallery(folder / "g", Model("a", 8) if random.random() < 0.5 else None)
    try:
        opened.people()
        opened.search(np.eye(1, 8, dtype=np.float32))
        opened.views(1)
        opened.merge(1, 2)
        opened.split(1, [0])
        opened.new_numbers(2)
        opened.forget([3])
    finally:
        opened.close()


def model(folder: Path, random: Random) -> None:
    _spoil_tensors(APPEARANCE, folder / "a.safetensors", random)
    embedder = Embedder(folder / "a.safetensors", device="cpu")
    image = random.integers(0, 255, (100, 100, 3), dtype=np.uint8)
    vectors = embedder.embed(image, np.array([[0, 0, 50, 100], [40, 0, 90, 90]], np.float32))
    assert np.isfinite(vectors).all() and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


def recorded(folder: Path, random: Random) -> None:
    if random.random() < 0.5:
        mot_text = "\n".join(f"{frame},-1,{9 * frame},10,20,40,0.9" for frame in range(1, 9))
        file = folder / "det.txt"
        file.write_bytes(spoil_text(mot_text, random))
    else:
        file = folder / "det.npz"
        columns = {"frame": np.arange(1, 9), "xyxy": np.tile([0.0, 0, 20, 40], (8, 1)), "confidence": np.full(8, 0.9)}
        name = str(random.choice(sorted(columns)))
        odd = [
            columns[name] * np.nan,
            columns[name][:-1],
            columns[name].astype(str),
            columns[name] * 1e300,
            columns[name][None],
        ]
        columns[name] = odd[random.integers(0, len(odd))]
        np.savez(file, **columns)
        if random.random() < 0.5:
            file.write_bytes(spoil(file.read_bytes(), random))
    RecordedDetections(file)


@cache
def _page() -> tuple[int, list[str]]:
    """A live page with somebody on it: its port, and the errors that its server logged."""
    people, events, errors = People(), EventLog(), list[str]()
    tracks = sv.Detections(np.array([[10, 10, 40, 90]], np.float32), tracker_id=np.array([1]))
    tracks.data["tracklet"] = np.array([1])
    people.see("hall", tracks, time.monotonic(), np.zeros((100, 100, 3), np.uint8))
    figures = {"name": "hall", "status": "live", "error": "", "fps": 9.0, "delay": 0.1, "frames": 1, "received": 1}
    cameras = [{**figures, "dropped": 0, "reconnects": 0}]
    listener = listen("127.0.0.1", 0)
    page = Page(listener, "", people, events, lambda: cameras)
    page.show(0, np.zeros((100, 100, 3), np.uint8), time.monotonic())

    class Errors(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(self.format(record))

    for name in ("uvicorn.error", "websockets"):
        logging.getLogger(name).addHandler(Errors(logging.ERROR))
    return listener.getsockname()[1], errors


def _ask(port: int, data: bytes) -> bytes:
    """Send bytes to the page and no more; the beginning of its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(4096)
        except ConnectionError:
            return b""


def _check_page(port: int, errors: list[str], answer: bytes, sent: bytes) -> None:
    """The answer is no error of the server, and a sound request is answered."""
    assert not answer or (answer.startswith(b"HTTP/1.1 ") and answer[9:10] in b"1234"), (sent, answer)
    assert not errors, (sent, errors)
    assert _ask(port, f"GET /state HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()).startswith(b"HTTP/1.1 200 ")


def http(_: Path, random: Random) -> None:
    port, errors = _page()
    head = f"HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n"
    json_head = head + "Content-Type: application/json\r\nContent-Length: "
    name, other = json.dumps({"name": "Ada"}), json.dumps({"other": 2})
    requests = [
        *(f"GET {path} {head}\r\n" for path in ("/", "/people", "/people/1/crop", "/metrics", "/static/page.js")),
        f"GET /events?after=0 {head}Last-Event-ID: 3\r\n\r\n",
        f"POST /people/1/name {json_head}{len(name)}\r\n\r\n{name}",
        f"POST /people/1/merge {json_head}{len(other)}\r\n\r\n{other}",
        f"POST /people/undo {json_head}0\r\n\r\n",
    ]
    sent = spoil_text(str(random.choice(requests)), random)
    _check_page(port, errors, _ask(port, sent), sent)


def socket_message(_: Path, random: Random) -> None:
    port, errors = _page()
    upgrade = f"GET /socket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    upgrade += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    messages = b"".join(
        _masked(str(random.choice(["-1", "0", "7", *ODD])).encode("utf-8", "replace")) for _ in range(4)
    )
    sent = upgrade.encode() + spoil(messages, random)
    if random.random() < 0.2:
        sent = spoil(sent, random)
    _check_page(port, errors, _ask(port, sent), sent)


def _masked(text: bytes) -> bytes:
    """A client's frame of a socket."""
    mask = b"\x01\x02\x03\x04"
    return bytes([0x81, 0x80 | len(text)]) + mask + bytes(each ^ mask[at % 4] for at, each in enumerate(text))


KINDS: dict[str, Callable[[Path, Random], None]] = {
    each.__name__: each for each in (mot, info, settings, video, state, gallery, model, recorded, http, socket_message)
}


def run(kind: str, rounds: int, seed: int) -> list[str]:
    """Faults found, with what brought them."""
    faults, counts = [], {"read": 0, "refused": 0}
    for number in range(rounds):
        random = np.random.default_rng([seed, number, sorted(KINDS).index(kind)])
        with tempfile.TemporaryDirectory(prefix=f"{kind}-") as name:
            folder = Path(name) / "in"
            folder.mkdir()
            began = time.monotonic()
            try:
                KINDS[kind](folder, random)
                counts["read"] += 1
            except UserError as error:
                counts["refused"] += 1
                if "\n" in str(error):
                    faults.append(f"{kind} {number}: more than one line: {error}")
            except Exception:
                faults.append(f"{kind} {number}:\n{traceback.format_exc(limit=-4)}")
            if time.monotonic() - began > SECONDS:
                faults.append(f"{kind} {number}: took {time.monotonic() - began:.0f} s")
    print(
        f"{kind}: {rounds} rounds, {counts['read']} read, {counts['refused']} refused, {len(faults)} faults", flush=True
    )
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=sorted(KINDS))
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    faults = [each for kind in arguments.kind or KINDS for each in run(kind, arguments.rounds, arguments.seed)]
    for each in faults:
        print(each)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
