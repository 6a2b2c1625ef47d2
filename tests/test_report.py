"""`track --report`: who was there, when, for how long, where; as tables and as a page that a browser shows."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from live_world import barriers
from tracking_world import detections, person, unit_vectors

from reid_tracker.config import TrackConfig, load
from reid_tracker.counting import PassageCounter, parse_shapes
from reid_tracker.errors import UserError
from reid_tracker.pipeline.batch import track
from reid_tracker.report.clock_time import began_at
from reid_tracker.report.finished import report
from reid_tracker.report.page import clock, make_page
from reid_tracker.report.visits import VisitLog
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import FrameResult

RATE, SIZE, FRAMES = 10, (640, 320), 200


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two walk across from 1 to 9 s, from left and right; one is gone from 9 to 16 s and back until the end."""
    folder = tmp_path_factory.mktemp("yard")
    writer = cv2.VideoWriter(str(folder / "yard.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), RATE, SIZE)
    rows: dict[str, list] = {name: [] for name in ("frame", "xyxy", "confidence", "embedding")}
    rng, who = np.random.default_rng(0), unit_vectors(4)
    for frame in range(FRAMES):
        image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
        people = []
        if 10 <= frame < 90:
            people = [(0, 50 + 6 * (frame - 10)), (1, 530 - 6 * (frame - 10))]
        elif frame >= 160:
            people = [(0, 300 + (frame - 160))]
        for number, x in people:
            box = person(x, 100 + 60 * number)
            left, top, right, bottom = map(int, box)
            image[top:bottom, left:right] = (40 + 150 * number, 80, 200 - 100 * number)
            vector = who[number] + 0.03 * rng.standard_normal(who.shape[1])
            for name, value in zip(rows, (frame + 1, box, 0.9, vector / np.linalg.norm(vector)), strict=True):
                rows[name].append(value)
        writer.write(image)
    writer.release()
    np.savez(folder / "yard.npz", **{name: np.array(column, np.float32) for name, column in rows.items()})
    return folder


def run(world: Path, output: Path, **more: object) -> dict[str, Path]:
    values = {"output.folder": str(output), "detector.recorded": str(world / "yard.npz"), "output.report": True}
    settings = {"tracker.return_false_match_rate": 0.05, "tracker.lost_seconds": 1.0, "tracker.camera_motion": False}
    (summary,) = track(world / "yard.mp4", load(TrackConfig, None, {**values, **settings, **more}))
    return {path.name: path for path in summary.outputs}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_tell_who_was_there_when_how_long_and_where(world: Path, tmp_path: Path) -> None:
    places = {"count.zones": ["middle=200,150 440,150 440,300 200,300"], "count.lines": ["door=320,0 320,320"]}
    files = run(world, tmp_path, **places)
    assert set(files) == {"yard_people.csv", "yard_visits.csv", "yard_report.html", "yard_counts.json"}
    one, other = table(files["yard_people.csv"])
    assert (one["number"], one["visits"], one["places"]) == ("1", "2", "door; middle")
    assert (other["number"], other["visits"]) == ("2", "1")
    assert float(one["first_seen_s"]) == pytest.approx(1.0, abs=0.25)
    assert float(one["last_seen_s"]) == pytest.approx(19.9, abs=0.15)
    assert float(one["in_view_s"]) == pytest.approx(8 + 4, abs=0.8)  # confirmed after some frames, twice
    visits = table(files["yard_visits.csv"])
    stays = [each for each in visits if each["number"] == "1" and not each["place"]]
    assert [round(float(each["dwell_s"])) for each in stays] == [8, 4]
    dwell = [float(each["dwell_s"]) for each in visits if each["place"] == "middle" and each["number"] == "1"]
    # Its feet are in the zone from x = 200 to 440, at 60 px/s; and it comes back into the zone and stays there.
    assert dwell[0] == pytest.approx(4.0, abs=0.4) and dwell[1] == pytest.approx(3.9, abs=0.5)
    crossed = [each for each in visits if each["place"] == "door"]
    assert [(each["number"], each["dwell_s"]) for each in crossed][:2] == [("2", ""), ("1", "")] or len(crossed) >= 2
    assert {each["direction"] for each in crossed} == {"in", "out"}
    counts = json.loads(files["yard_counts.json"].read_text())["zones"]["middle"]
    entries = [each for each in visits if each["place"] == "middle"]
    assert (counts["in"], counts["people"]) == (len(entries), len({each["number"] for each in entries}))


def test_times_are_those_of_the_clock_on_the_wall_where_the_beginning_is_known(world: Path, tmp_path: Path) -> None:
    unknown = table(run(world, tmp_path / "a")["yard_people.csv"])
    assert {each["first_seen_at"] for each in unknown} == {""}
    files = run(world, tmp_path / "b", **{"source.clock": "2026-11-29 23:59:58+01:00"})
    one = table(files["yard_people.csv"])[0]
    assert (one["first_seen_at"], one["last_seen_at"]) == ("2026-11-29 23:59:59+01:00", "2026-11-30 00:00:17+01:00")
    visit = table(files["yard_visits.csv"])[0]
    assert visit["entered_at"] == "2026-11-29 23:59:59+01:00"
    assert "2026-11-29 23:59:58+01:00" in files["yard_report.html"].read_text()
    with pytest.raises(UserError, match="A clock is for the times in a report"):
        run(world, tmp_path / "c", **{"source.clock": "2026-11-29", "output.report": False, "output.mot": True})
    with pytest.raises(UserError, match=r"--clock noon: write a date and time"):
        run(world, tmp_path / "c", **{"source.clock": "noon"})


def test_a_time_after_the_end_of_the_calendar_is_left_empty(world: Path, tmp_path: Path) -> None:
    files = run(world, tmp_path, **{"source.clock": "9999-12-31 23:59:58", "output.mot": True})
    one = table(files["yard_people.csv"])[0]
    assert (one["first_seen_at"], one["last_seen_at"]) == ("9999-12-31 23:59:59", "")
    assert float(one["last_seen_s"]) == pytest.approx(19.9, abs=0.15)
    page = files["yard_report.html"].read_text()
    assert "9999-12-31 23:59:58" in page and page.count("data:image/") > 3


@pytest.mark.parametrize(
    ("said", "found"),
    [("2026-11-29T14:00:05.000000Z", "2026-11-29 14:00:05+00:00"), ("1904-01-01T00:00:00Z", None), ("soon", None)],
)
def test_when_a_file_was_made_is_asked_of_its_container(tmp_path: Path, said: str, found: str | None) -> None:
    path = tmp_path / "walk.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["creation_time"] = said
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="bgr24")))
        container.mux(stream.encode(None))
    if found is None:
        with pytest.raises(UserError, match=r"walk\.mp4 does not say when it was made"):
            began_at("file", path)
    else:
        assert str(began_at("file", path)) == found


def test_a_report_tells_of_the_decisions_that_are_likely_wrong(tmp_path: Path) -> None:
    log = VisitLog()
    for tick in range(200):  # somebody leaps across the picture while out of sight
        here = detections([person(80.0)] if tick < 60 else [person(900.0)] if tick >= 150 else np.zeros((0, 4)))
        here.tracker_id = np.full(len(here), 7)
        here.data["tracklet"] = np.full(len(here), 3)
        log.write(FrameResult(Frame(None, tick, tick / 10), here, here))
    (doubt,) = log.doubts()
    assert (doubt.kind, doubt.identity, round(doubt.start), round(doubt.end)) == ("gap", 7, 6, 15)
    assert "Is #7 the same person after being out of sight?" in make_page(log, "yard", {}).decode()
    assert next(csv.DictReader(log.people_table().decode().splitlines()))["doubts"] == "1"


def test_whoever_leaves_a_zone_out_of_sight_and_comes_back_into_it_was_there_twice() -> None:
    counter = PassageCounter(parse_shapes([], ["yard=0,0 200,0 200,300 0,300"]))
    log = VisitLog(counter)
    for tick in range(121):
        now = tick / 10
        here = detections([person(80.0)] if not 2 < now < 9 else np.zeros((0, 4)))
        here.tracker_id = np.full(len(here), 7)
        here.data["tracklet"] = np.full(len(here), 3)
        counter.update(here, now)
        log.write(FrameResult(Frame(None, tick, now), here, here))
    stays = [(visit.place, round(visit.entered, 1), round(visit.left, 1)) for visit in log.visits()]
    assert stays == [("", 0.0, 2.0), ("yard", 0.1, 2.0), ("", 9.0, 12.0), ("yard", 9.1, 12.0)]
    (someone,) = log.people()
    assert (someone.number, someone.visits) == (7, 2)


def test_the_page_is_one_file_that_shows_everyone_in_a_browser(world: Path, tmp_path: Path) -> None:
    page = run(world, tmp_path, **{"count.zones": ["<b>&yard=200,150 440,150 440,300 200,300"]})["yard_report.html"]
    text = page.read_text(encoding="utf-8")
    assert "<b>&yard" not in text and "&lt;b&gt;&amp;yard" in text
    assert not re.search(r"""(src|href)=["'](?!data:)""", text) and len(text) < 3_000_000
    chrome, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chrome and driver):
        pytest.skip("Chromium and its driver are not installed")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = chrome
    for flag in ("--headless", "--no-sandbox", "--disable-background-networking", f"--user-data-dir={tmp_path / 'c'}"):
        options.add_argument(flag)
    with Chrome(options, ChromeService(driver)) as browser:
        for width in (1200, 390):
            browser.set_window_size(width, 900)
            browser.get(page.as_uri())
            assert browser.execute_script("return document.querySelectorAll('.people li').length") == 2
            shown = "return [...document.images].every(each => each.complete && each.naturalWidth > 0)"
            assert browser.execute_script(shown)
            assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
            assert barriers(browser) == []
        assert [each for each in browser.get_log("browser") if each["level"] == "SEVERE"] == []


def test_a_report_of_what_was_looked_back_on_and_of_nobody(world: Path, tmp_path: Path) -> None:
    files = run(world, tmp_path, **{"refine.enabled": True})
    assert {"yard_refined_people.csv", "yard_refined_report.html"} <= set(files)
    assert len(table(files["yard_refined_people.csv"])) == 2
    files = run(world, tmp_path / "none", **{"source.end": "0.5s"})
    assert table(files["yard_people.csv"]) == [] and "0</b>people" in files["yard_report.html"].read_text()


def test_blurred_people_are_in_no_report(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a report shows people"):
        run(world, tmp_path, **{"output.blur_people": True})


def test_times_are_told_with_tenths_where_the_video_is_short() -> None:
    assert [clock(each) for each in (None, 1.25, 75, 3725)] == ["-", "0:01", "1:15", "1:02:05"]
    assert clock(1.25, short=True) == "1.2 s"


def test_a_person_has_the_same_colour_in_the_report_as_in_the_video(world: Path, tmp_path: Path) -> None:
    files = run(world, tmp_path, **{"output.video": True, "output.trail_seconds": 0})
    shown = re.findall(r"border-top-color: #(..)(..)(..)", files["yard_report.html"].read_text(encoding="utf-8"))
    film = cv2.VideoCapture(str(files["yard.mp4"]))
    film.set(cv2.CAP_PROP_POS_FRAMES, 50)
    picture = film.read()[1].reshape(-1, 3).astype(int)
    for number in shown:
        red, green, blue = (int(part, 16) for part in number)
        assert (np.abs(picture - [blue, green, red]).max(axis=1) < 25).sum() > 100  # label and box, after 4:2:0


def same_as(one: list[dict[str, str]], other: list[dict[str, str]]) -> None:
    """The same table, but for a frame's time in view: text does not know of tracklets."""
    times = [[float(row.pop("in_view_s", 0)) for row in rows] for rows in (one, other)]
    assert one == other and times[0] == pytest.approx(times[1], abs=0.11)


@pytest.mark.parametrize("kind", ["output.jsonl", "output.mot"])
def test_results_at_hand_give_the_report_that_the_run_gave(world: Path, tmp_path: Path, kind: str) -> None:
    places = {"count.zones": ["middle=200,150 440,150 440,300 200,300"], "count.lines": ["door=320,0 320,320"]}
    files = run(world, tmp_path, **places, **{kind: True})
    (results,) = (path for path in files.values() if path.suffix in (".jsonl", ".txt"))
    shown = {"lines": places["count.lines"], "zones": places["count.zones"]}
    people, visits, page = report(results, world / "yard.mp4", tmp_path / "again", **shown)
    same_as(table(people), table(files["yard_people.csv"]))
    if kind == "output.jsonl":  # text does not know of tracklets
        assert table(visits) == table(files["yard_visits.csv"])
    assert people.stat().st_mode & 0o077 == 0
    assert page.read_text().count("data:image/") == files["yard_report.html"].read_text().count("data:image/") > 3
    # The run's own report gives way to a new one of the same results; other places are asked about.
    again = report(results, world / "yard.mp4", zones=["left=0,0 320,0 320,320 0,320"])
    assert again[0] == files["yard_people.csv"] and "left" in table(again[0])[0]["places"]


def test_a_path_ends_where_somebody_is_out_of_sight() -> None:
    log = VisitLog()
    for second in (*range(3), *range(10, 14)):
        tracks = detections([person(100 * second)])
        tracks.tracker_id = np.array([1])
        tracks.data["tracklet"] = np.array([1])
        log.write(FrameResult(Frame(None, second, float(second)), tracks, tracks))
    (stretches,) = log.paths().values()
    assert [[*seconds] for seconds, _, _ in stretches] == [[0, 1, 2], [10, 11, 12, 13]]


def test_a_report_without_the_video_needs_times_only(world: Path, tmp_path: Path) -> None:
    files = run(world, tmp_path, **{"output.jsonl": True, "output.mot": True})
    jsonl, text = (next(path for path in files.values() if path.suffix == end) for end in (".jsonl", ".txt"))
    by_clock = [table(path) for path in report(jsonl, None, tmp_path / "a")[:2]]
    by_rate = [table(path) for path in report(text, None, tmp_path / "b", fps=RATE)[:2]]
    same_as(by_clock[0], by_rate[0])
    assert len(by_clock[0]) == 2 and len(by_clock[1]) == len(by_rate[1]) == 3
    assert float(by_clock[0][0]["last_seen_s"]) == pytest.approx(19.9, abs=0.15)
    with pytest.raises(UserError, match="--fps"):
        report(text, None, tmp_path / "c")
    for fps in (0, 1e-300, 1e300, float("nan")):
        with pytest.raises(UserError, match=r"fps .*: must be between 0\.001 and 10000"):
            report(text, None, tmp_path / "c", fps=fps)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / f"{text.stem}_people.csv").write_text("mine")
    with pytest.raises(UserError, match=r"people\.csv"):
        report(text, None, tmp_path / "d", fps=RATE)
    assert (tmp_path / "d" / f"{text.stem}_people.csv").read_text() == "mine"


def test_a_moment_beyond_the_calendar_has_no_date(tmp_path: Path) -> None:
    track = '{"id": 1, "confidence": 1, "xyxy": [1, 2, 30, 40]}'
    lines = (
        f'{{"index": {index}, "timestamp": {seconds}, "tracks": [{track}]}}\n' for index, seconds in ((0, 0), (1, 1e13))
    )
    (tmp_path / "a.jsonl").write_text("".join(lines))
    (one,) = table(report(tmp_path / "a.jsonl", clock="2026-11-29 14:00:05")[0])
    assert (one["first_seen_at"], one["last_seen_at"]) == ("2026-11-29 14:00:05", "")


def test_names_that_no_file_holds_are_in_a_report_all_the_same(tmp_path: Path) -> None:
    track = r'{"id": 1, "confidence": 1, "xyxy": [1, 2, 30, 40], "class": "\ud800", "name": "\udc00Ann"}'
    results = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.jsonl"))
    results.write_text(f'{{"index": 0, "timestamp": 0, "tracks": [{track}]}}')
    people, visits, page = report(results)
    assert table(people)[0]["name"] == table(visits)[0]["name"] == "?Ann" and "?Ann" in page.read_text(encoding="utf-8")


def test_the_table_of_a_run_is_a_data_frame(world: Path, tmp_path: Path) -> None:
    settings = {"output.folder": str(tmp_path), "detector.recorded": str(world / "yard.npz"), "output.jsonl": True}
    (summary,) = track(world / "yard.mp4", load(TrackConfig, None, settings))
    frame = summary.to_frame()
    assert set(frame.identity) == {1, 2} and frame.seconds.max() == pytest.approx(19.9, abs=0.05)
    assert (frame.x2 > frame.x1).all() and set(frame["class"]) == {"person"}
