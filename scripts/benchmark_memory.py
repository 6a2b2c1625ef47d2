"""Start-up and memory of a long run: a video is played in a loop at 1280 x 720, tracked, and watched from outside.

    python scripts/benchmark_memory.py PETS09-S2L1.avi --minutes 10 --fps 10

Prints seconds from the start of the process to the first tracked frame, and the resident memory minute by minute
(of video time; Linux only).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
from resident import memory

from reid_tracker.video.sources import open_source

CHILD = """
import sys
from reid_tracker import TrackConfig, track
from reid_tracker.config import load
def done(source, frames):
    print(frames, flush=True)
track(sys.argv[1], load(TrackConfig, None, {"output.folder": sys.argv[2]}), progress=done)
"""


def main() -> None:
    """Make the clip, track it in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--fps", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "long.mp4"
        make_clip(options.video, clip, round(options.minutes * 60 * options.fps), options.fps)
        began = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(clip), str(Path(folder) / "out")], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        peak = 0.0
        for line in child.stdout:
            frames = int(line)
            if frames == 1:
                print(f"first frame after {time.perf_counter() - began:.1f} s", flush=True)
            held = memory("VmRSS", child.pid)
            peak = max(peak, held)
            if frames % round(60 * options.fps) == 0:
                print(f"minute {frames / options.fps / 60:.0f}: {held:.0f} MiB, peak {peak:.0f} MiB", flush=True)
        print(f"{frames / (time.perf_counter() - began):.1f} frames a second; status {child.wait()}")


def make_clip(video: Path, clip: Path, frames: int, frame_rate: float) -> None:
    """Encode a video in a loop at 1280 x 720."""
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(frame_rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt, stream.options = 1280, 720, "yuv420p", {"preset": "ultrafast"}
        pictures = (frame.image for _ in range(frames) for frame in open_source(video))
        for image in islice(pictures, frames):
            picture = cv2.resize(image, (1280, 720))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
