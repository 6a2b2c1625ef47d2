"""Tracking many clips with workers: throughput beside one process, equal results, and machines that die.

    python scripts/benchmark_workers.py VIDEO... [--clips 24] [--seconds 6] [--workers 2]
    python scripts/benchmark_workers.py VIDEO... --kill-nodes 10 [--gallery postgresql://...]

The clips are pieces of the videos, a third of them corrupted in one way each. In turns: one process as `track` does
it, one worker on one processor (Linux), and `--workers` of them; printed are clips a minute without the start of Ray
and the networks, which is printed beside it, and whether all results are the same bytes. With `--kill-nodes` a
cluster of three nodes on this machine tracks the clips, and one of the two that the caller is not on is killed at a
random moment, in so many rounds. With `--gallery` each round has a gallery of its own in that database, and it is
checked that it is whole: everybody in the results is in it, merged, or was not seen well enough, and every vector is
a vector.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from supervision import Detections

from reid_tracker import TrackConfig, open_source, track
from reid_tracker.config import load
from reid_tracker.evaluation.corruptions import CORRUPTIONS, corrupt
from reid_tracker.gallery.opening import open_gallery
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import FrameResult
from reid_tracker.video.video_sink import VideoSink

NOBODY = Detections.empty()


def cut(videos: list[Path], folder: Path, clips: int, seconds: float) -> list[Path]:
    """Write pieces of the videos in turn, of each from the beginning again when it ends."""
    for place, video in enumerate(videos):
        source = open_source(video)
        length, numbers = max(int(seconds * source.frame_rate), 1), range(place, clips, len(videos))
        frames = list(islice(cycle(islice(source, length * len(numbers))), length * len(numbers)))
        for piece, number in enumerate(numbers):
            sink, random = VideoSink(folder / f"clip{number:02d}.mp4", source.frame_rate), np.random.default_rng(number)
            kind = list(CORRUPTIONS)[number % len(CORRUPTIONS)] if number % 3 == 2 else None
            for index, frame in enumerate(frames[piece * length : (piece + 1) * length]):
                assert frame.image is not None
                image = corrupt(frame.image, kind, 3, random, frame.image.shape[0] / 4) if kind else frame.image
                sink.write(FrameResult(Frame(image, index, index / source.frame_rate), NOBODY, NOBODY))
            sink.close()
    return [folder / f"clip{number:02d}.mp4" for number in range(clips)]


def run(clips: list[Path], folder: Path, alone: bool, **settings: object) -> float:
    """Track the clips in a process of its own, on one processor where it is to be ``alone`` there; seconds."""
    flags = [f"--set={name}={value}" for name, value in settings.items()]
    program = [sys.executable, "-m", "reid_tracker", "track", *map(str, clips), "--mot", "-o", str(folder), *flags]
    began = time.perf_counter()
    subprocess.run([*(("taskset", "-c", "0") if alone else ()), *program], check=True, capture_output=True)
    return time.perf_counter() - began


def same(one: Path, other: Path) -> bool:
    texts = sorted(each.name for each in one.glob("*.txt"))
    return texts == sorted(each.name for each in other.glob("*.txt")) and all(
        (one / each).read_bytes() == (other / each).read_bytes() for each in texts
    )


def compare(clips: list[Path], work: Path, workers: int) -> None:
    """Print throughputs: the first clip alone tells what starting takes."""
    ways: dict[str, dict[str, object]] = {
        "one process": {},
        "1 worker on 1 processor": {"workers.count": 1, "workers.threads": 1},
        f"{workers} workers": {"workers.count": workers},
    }
    for name, settings in ways.items():
        alone = "workers.threads" in settings
        start = run(clips[:1], work / "start", alone, **settings)
        shutil.rmtree(work / "start")
        seconds = run(clips, work / name, alone, **settings)
        share = 60 * (len(clips) - 1) / (seconds - start)
        told = "" if name == "one process" else f", same results: {same(work / 'one process', work / name)}"
        print(
            f"{name}: {seconds:.1f} s, of which start and one clip {start:.1f} s; {share:.1f} clips/min{told}",
            flush=True,
        )


def sound(where: str, folder: Path) -> str:
    """What is in a gallery, and whether that fits what the runs wrote."""
    gallery = open_gallery(where)
    numbers, vectors = gallery.vectors()
    people = {each.number for each in gallery.people()}
    written = {int(row.split(",")[1]) for text in folder.glob("*.txt") for row in text.read_text().splitlines()}
    unknown = written - people - set(gallery.gone(sorted(written)))
    is_whole = set(numbers.tolist()) == people and bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3))
    gallery.close()
    return f"{len(people)} people, whole {is_whole}, {len(written)} in the results, {len(unknown)} of them unclear"


def kill_nodes(clips: list[Path], work: Path, rounds: int, gallery: str | None) -> None:
    """Kill a node of three in every round; each clip must be tracked once, whole."""
    import ray
    from ray.cluster_utils import Cluster

    lengths = {each.stem: open_source(each).frame_count for each in clips}
    for number in range(rounds):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        doomed = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        folder, delay = work / f"round{number}", random.Random(number).uniform(2, 25)
        timer = threading.Timer(delay, cluster.remove_node, [doomed[number % 2]], {"allow_graceful": False})
        timer.start()
        settings = {
            "output.folder": str(folder),
            "output.mot": True,
            "output.video": True,
            "workers.ray": cluster.address,
        }
        where = f"{gallery}{'&' if '?' in gallery else '?'}gallery=round{number}" if gallery else None
        settings |= {"workers.threads": 1, "gallery.where": where}
        summaries = track(clips, load(TrackConfig, overrides=settings))
        timer.cancel()
        whole = [sum(1 for _ in open_source(folder / f"{name}.mp4")) == count for name, count in lengths.items()]
        left = [each.name for each in folder.iterdir() if ".part." in each.name]
        once = len(summaries) == len(clips) and not any(each.error for each in summaries)
        kept = f", gallery: {sound(where, folder)}" if where else ""
        print(
            f"round {number}: killed after {delay:.1f} s: whole {sum(whole)} of {len(whole)}, once {once}, left {left}"
            f"{kept}",
            flush=True,
        )
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a clip")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill-nodes", type=int, default=0, metavar="ROUNDS")
    parser.add_argument("--gallery", metavar="URL", help="with --kill-nodes: a PostgreSQL database")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / "clips").mkdir()
        clips = cut(arguments.videos, work / "clips", arguments.clips, arguments.seconds)
        if arguments.kill_nodes:
            kill_nodes(clips, work, arguments.kill_nodes, arguments.gallery)
        else:
            compare(clips, work, arguments.workers)


if __name__ == "__main__":
    main()
