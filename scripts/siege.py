"""What a live run does under attack, and with cameras that die: nothing may stop, and nothing may pile up.

    python scripts/siege.py VIDEO [--minutes 10] [--half-open 1100]        # strangers without a token hold connections
    python scripts/siege.py VIDEO --cameras 6 [--minutes 15]               # each minute another camera dies for 20 s

VIDEO is served as MJPEG by cameras in processes of their own. `reid-tracker live` records, enrols and serves its page.
For the first, two minutes (a fifth) are calm before; then so many half-open connections are opened again and again.
Printed are frames tracked and dropped, answers of the page to its user, files recorded, people enrolled, and threads
and open files of the process at the start and at the end.
"""

import argparse
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import av
from resident import memory

from reid_tracker import open_gallery
from reid_tracker.urls import masked

TOKEN, RATE, DEAD_SECONDS = "siege", 5.0, 20.0
CAMERA = Path(__file__).parent / "benchmark_live.py"


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Run:
    """Cameras and a live run that watches them."""

    def __init__(self, video: Path, cameras: int, folder: Path) -> None:
        self.video, self.folder, self.ports = video, folder, [free_port() for _ in range(cameras)]
        self.cameras = [self.start_camera(port) for port in self.ports]
        self.page = free_port()
        command = [sys.executable, "-m", "reid_tracker", "live", "--serve", f"127.0.0.1:{self.page}"]
        command += ["--record", str(folder / "recorded"), "--gallery", str(folder / "people")]
        command += ["--set", "output.segment_seconds=60", "--set", "gallery.save_seconds=10"]
        command += ["--set", "capture.timeout_seconds=5"]
        for number, port in enumerate(self.ports):
            command += ["--source", f"cam{number}=http://127.0.0.1:{port}/camera"]
        self.log = folder / "log"
        with self.log.open("w") as file:
            environment = os.environ | {"REID_TRACKER_TOKEN": TOKEN}
            self.live = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        while self.ask("state") is None:
            assert self.live.poll() is None, self.log.read_text()
            time.sleep(0.5)

    def start_camera(self, port: int) -> subprocess.Popen[str]:
        """A camera, once it can be connected to."""
        command = [sys.executable, str(CAMERA), str(self.video), "--serve", str(RATE), "--port", str(port)]
        camera = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert camera.stdout is not None
        camera.stdout.readline()
        return camera

    def ask(self, path: str) -> str | None:
        """What the page answers its user within two seconds, or None."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.page}/{path}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with suppress(OSError), urllib.request.urlopen(request, timeout=2) as answer:
            return str(answer.read().decode())
        return None

    def figures(self) -> dict[str, float]:
        """Frames received, tracked and dropped by all cameras, reconnects, and what the process holds."""
        text = self.ask("metrics") or ""
        total = {}
        for name in ("frames_received", "frames_tracked", "frames_dropped", "reconnects"):
            total[name] = sum(map(float, re.findall(rf"reid_tracker_{name}_total{{.*}} (\S+)", text)))
        process = Path(f"/proc/{self.live.pid}")
        held = {"threads": len(list((process / "task").iterdir())), "files": len(list((process / "fd").iterdir()))}
        return {**total, **held, "MiB": round(memory("VmRSS", self.live.pid))}

    def end(self) -> None:
        """End by SIGTERM, and tell what was recorded and enrolled."""
        self.live.send_signal(signal.SIGTERM)
        status = self.live.wait(60)
        for camera in self.cameras:
            camera.kill()
        seconds, files = 0.0, sorted((self.folder / "recorded").glob("*.mp4"))
        for path in files:
            with av.open(str(path)) as container:
                times = [float(frame.time or 0) for frame in container.decode(video=0)]
                seconds += times[-1] - times[0]
        gallery = open_gallery(self.folder / "people")
        print(f"exit {status}; {len(files)} files with {seconds:.0f} s; {len(gallery.people())} people in the gallery")
        gallery.close()
        errors = [line for line in self.log.read_text().splitlines() if "Traceback" in line or "Error" in line]
        print("\n".join(masked(each) for each in errors) or "no error in the log")


def besiege(run: Run, seconds: float, count: int) -> None:
    """Calm, then strangers."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(5000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    before = run.figures()
    time.sleep(seconds / 5)
    calm = run.figures()
    end, held, answers = time.monotonic() + seconds, list[socket.socket](), [0, 0]
    while time.monotonic() < end:
        while len(held) < count:
            try:
                stranger = socket.create_connection(("127.0.0.1", run.page), timeout=2)
                stranger.sendall(b"GET /state HTTP/1.1\r\nHost: x\r\nX: ")
                held.append(stranger)
            except OSError:
                break
        answers[run.ask("state") is None] += 1
        time.sleep(1)
        for each in list(held):
            each.setblocking(False)
            with suppress(BlockingIOError):
                try:
                    if each.recv(1):
                        continue
                except ConnectionError:
                    pass
                each.close()
                held.remove(each)
    for each in held:
        each.close()
    time.sleep(2)
    after = run.figures()
    for name, one, other in (("calm", before, calm), ("besieged", calm, after)):
        received, dropped = (other[key] - one[key] for key in ("frames_received", "frames_dropped"))
        print(f"{name}: {received:.0f} frames received, {dropped:.0f} dropped ({100 * dropped / received:.1f} %)")
    print(f"the page's user: {answers[0]} answered within 2 s, {answers[1]} not")
    print(f"start {before}\nend   {after}")


def kill_cameras(run: Run, minutes: int) -> None:
    """Each minute another camera dies."""
    before = run.figures()
    for minute in range(minutes):
        place = minute % len(run.cameras)
        time.sleep(60 - DEAD_SECONDS)
        run.cameras[place].kill()
        run.cameras[place].wait()
        time.sleep(DEAD_SECONDS)
        run.cameras[place] = run.start_camera(run.ports[place])
    time.sleep(30)  # until the last one is back
    print(f"start {before}\nend   {run.figures()}")
    for name, status in re.findall(r'"name":"(\w+)","status":"(\w+)"', run.ask("state") or ""):
        print(name, status, end="; ")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--minutes", type=int)
    parser.add_argument("--half-open", type=int, default=1100)
    parser.add_argument("--cameras", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(arguments.video, arguments.cameras, Path(folder))
        try:
            if arguments.cameras > 1:
                kill_cameras(run, arguments.minutes or 15)
            else:
                besiege(run, 60.0 * (arguments.minutes or 10), arguments.half_open)
        finally:
            run.end()


if __name__ == "__main__":
    main()
