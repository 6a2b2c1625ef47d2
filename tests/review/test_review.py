"""Looking finished tracks over: which decisions are doubtful, changes and their undoing, the page, the results."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_world import make_clip, refused
from live_world import barriers, wait_until
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from reid_tracker.errors import UserError
from reid_tracker.exchange.tracks import Tracks, read_results
from reid_tracker.gallery.opening import open_gallery
from reid_tracker.review.doubts import CROSSING, GAP, NEWCOMER, Timeline, find_doubts
from reid_tracker.review.edits import DROPPED, Reviewed
from reid_tracker.video.sources import open_source

RATE = 10.0


def walk(identity, frames, x, step=5.0, y=100.0, confidence=0.9):
    """Somebody who walks sideways: rows for `Tracks.from_rows`."""
    return [
        (frame, identity, x + step * k, y, x + step * k + 40, y + 100, confidence, "person", (frame - 1) / RATE)
        for k, frame in enumerate(frames)
    ]


def tracks_of(*rows):
    return Tracks.from_rows([each for part in rows for each in part], "here")


def test_who_is_in_view_all_along_raises_no_doubt():
    assert find_doubts(Timeline(tracks_of(walk(1, range(1, 60), 0), walk(2, range(1, 60), 900, -3.0)), RATE)) == []


def test_doubts_are_found_where_identities_may_have_changed():
    gap = [*walk(1, range(1, 20), 0), *walk(1, range(60, 80), 700)]
    crossing = [walk(2, range(1, 81), 0, 5.0, 400), walk(3, range(1, 81), 400, -5.0, 405)]
    newcomer = [*walk(4, range(1, 30), 0, y=700), *walk(5, range(40, 80), 195, y=700)]
    found = find_doubts(Timeline(tracks_of(gap, *crossing, newcomer), RATE))
    by_kind = {kind: [each for each in found if each.kind == kind] for kind in (GAP, CROSSING, NEWCOMER)}
    assert [(each.identity, each.after) for each in by_kind[GAP]] == [(1, 60)]
    assert [(each.identity, each.other) for each in by_kind[CROSSING]] == [(2, 3)]
    assert by_kind[CROSSING][0].start < 4 < by_kind[CROSSING][0].end + 0.5
    assert [(each.identity, each.other) for each in by_kind[NEWCOMER]] == [(5, 4)]
    assert all(0 < each.odds < 1 for each in found)
    assert [each.odds for each in found] == sorted((each.odds for each in found), reverse=True)


def test_the_less_likely_of_two_gaps_comes_first():
    smooth = [*walk(1, range(1, 20), 0), *walk(1, range(25, 60), 120)]
    leap = [*walk(2, range(1, 20), 0, y=500), *walk(2, range(25, 60), 420, y=500)]
    assert [each.identity for each in find_doubts(Timeline(tracks_of(smooth, leap), RATE))] == [2, 1]


class Slow:
    """The same changes on one row at a time."""

    def __init__(self, tracks):
        self.rows = [[int(frame), int(who)] for frame, who in zip(tracks.frame, tracks.identity, strict=True)]
        self.next = max(who for _, who in self.rows) + 1

    def edit(self, do, identity, other=None, frame=0):
        for row in self.rows:
            if do == "split" and row[1] == identity and row[0] >= frame:
                row[1] = self.next
            elif do == "merge" and row[1] == identity:
                row[1] = other
            elif do == "swap" and row[0] >= frame and row[1] in (identity, other):
                row[1] = other if row[1] == identity else identity
            elif do == "drop" and row[1] == identity:
                row[1] = DROPPED
        self.next += do == "split"


@pytest.mark.parametrize("seed", range(10))
def test_random_changes_do_what_they_do_to_each_row_and_are_undone_in_any_number(seed):
    random = np.random.default_rng(seed)
    tracks = tracks_of(*(walk(who, range(5 * who, 5 * who + 40), 10 * who) for who in range(1, 9)))
    reviewed, slow, history = Reviewed(tracks), Slow(tracks), [tracks.identity.tolist()]
    for _ in range(60):
        people = reviewed.people().tolist()
        one, two = random.choice(people, 2).tolist()
        frame = int(random.integers(1, 90))
        change = {
            0: {"do": "split", "identity": one, "frame": frame},
            1: {"do": "merge", "identity": one, "into": two},
            2: {"do": "swap", "identity": one, "other": two, "frame": frame},
            3: {"do": "drop", "identity": one},
        }[int(random.choice(4, p=[0.45, 0.3, 0.2, 0.05]))]
        try:
            reviewed.edit(change)
        except UserError:
            assert reviewed.identity.tolist() == history[-1]
            continue
        slow.edit(change["do"], one, change.get("into", change.get("other")), change.get("frame", 0))
        assert reviewed.identity.tolist() == [who for _, who in slow.rows]
        history.append(reviewed.identity.tolist())
    assert len(history) > 10
    for before in reversed(history[:-1]):
        reviewed.undo()
        assert reviewed.identity.tolist() == before
    reviewed.undo()
    assert reviewed.edits == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"do": "merge", "identity": 1, "into": 2}, r"#1 and #2 are both in view in frame 10"),
        ({"do": "merge", "identity": 1, "into": 1}, "already"),
        ({"do": "merge", "identity": 1, "into": 9}, "There is no #9"),
        ({"do": "split", "identity": 1, "frame": 1}, "cannot be split at frame 1"),
        ({"do": "split", "identity": 1, "frame": 99}, "cannot be split at frame 99"),
        ({"do": "swap", "identity": 1, "other": 2, "frame": 21}, "#1 is not there from frame 21 on"),
        ({"do": "swap", "identity": 1, "other": 1, "frame": 2}, "with itself"),
        ({"do": "rename", "identity": 1, "name": "x" * 65}, "at most 64"),
        ({"do": "rename", "identity": 1, "name": "\x1b[31m"}, "printable"),
        ({"do": "rename", "identity": 1}, "name is missing"),
        ({"do": "drop", "identity": True}, "identity is missing, or is no number"),
        ({"do": "drop", "identity": 10**30}, "is no number"),
        ({"do": "drop", "identity": DROPPED}, "is no number"),
        ({"do": "keep", "doubt": "x" * 300}, "is no short text"),
        ({"do": "keep", "doubt": "\ud800"}, "no such doubt"),
        ({"do": "__init__"}, "A change is one of merge, split"),
        ({"do": ["merge"]}, "A change is one of"),
        ([], "A change is one of"),
        (None, "A change is one of"),
    ],
)
def test_what_cannot_be_changed_is_refused_and_changes_nothing(change, words):
    reviewed = Reviewed(tracks_of(walk(1, range(1, 21), 0), walk(2, range(10, 41), 900)))
    before = reviewed.identity.copy()
    with pytest.raises(UserError, match=words):
        reviewed.edit(change)
    np.testing.assert_array_equal(reviewed.identity, before)
    assert reviewed.edits == []


def test_where_somebody_was_only_expected_the_other_may_have_been_seen():
    expected = walk(1, range(20, 25), 95, confidence=0.0)
    reviewed = Reviewed(tracks_of([*walk(1, range(1, 20), 0), *expected], walk(2, range(22, 41), 200)))
    reviewed.edit({"do": "rename", "identity": 2, "name": "Anna"})
    reviewed.edit({"do": "merge", "identity": 2, "into": 1})
    now = reviewed.identity == 1
    assert sorted(reviewed.tracks.frame[now].tolist()) == list(range(1, 41))  # one box a frame
    assert reviewed.names == {1: "Anna"}


@pytest.fixture
def run(tmp_path) -> tuple[Path, Path]:
    """A video and its JSON lines: somebody is #1, later #2; #3 is there all along; #2 is expected for a moment."""
    video = make_clip(tmp_path / "walk.mp4", frames=40)
    boxes = {1: range(0, 15), 2: range(20, 40), 3: range(0, 40)}
    with (tmp_path / "walk.jsonl").open("w") as file:
        for index in range(40):
            rows = [
                {
                    "id": who,
                    "tracklet": who,
                    "xyxy": [3.0 * index if who < 3 else 100, 30, (3.0 * index if who < 3 else 100) + 20, 90],
                    "confidence": 0 if (who, index) == (2, 30) else 0.9,
                    "class": "person",
                }
                for who, frames in boxes.items()
                if index in frames
            ]
            file.write(json.dumps({"index": index, "timestamp": index / 10, "tracks": rows}) + "\n")
    return video, tmp_path / "walk.jsonl"


def log_of(results: Path, *edits: object) -> Path:
    log = results.with_name(f"{results.stem}_review.json")
    log.write_text(json.dumps({"edits": edits}))
    return log


def test_a_saved_review_is_applied_to_text_lines_table_video_report_and_crops(command, run, tmp_path):
    video, results = run
    edits = [
        {"do": "merge", "identity": 2, "into": 1},
        {"do": "rename", "identity": 1, "name": "=Anna"},
        {"do": "split", "identity": 3, "frame": 21},
        {"do": "drop", "identity": 4},
    ]
    log_of(results, *edits)
    status, out, _ = command("review", results, video, "--apply", "--render")
    written = [tmp_path / f"walk_reviewed.{ending}" for ending in ("txt", "jsonl", "csv", "mp4")]
    assert status == 0 and out.split() == [str(each) for each in written]
    for each in written[:2]:
        tracks = read_results(each)
        where = {who: tracks.frame[tracks.identity == who].tolist() for who in np.unique(tracks.identity).tolist()}
        assert where == {1: [*range(1, 16), *range(21, 41)], 3: list(range(1, 21))}
    assert read_results(written[1]).names == {1: "=Anna"}
    assert list(csv.reader(written[2].open())) == [
        ["identity", "decision", "name"],
        ["1", "keep", "'=Anna"],  # nothing that a spreadsheet would run
        ["3", "keep", ""],
    ]
    assert len(list(open_source(written[3]))) == 40
    assert all(each.stat().st_mode & 0o077 == 0 for each in written)  # they show people
    command("report", written[1], "--video", video)
    people = list(csv.DictReader((tmp_path / "walk_reviewed_people.csv").open()))
    assert [(each["number"], each["name"]) for each in people] == [("1", "'=Anna"), ("3", "")]
    status, _, error = command(
        "export-crops", written[0], video, "-o", tmp_path / "crops", "--review", written[2], "--min-height", 20
    )
    assert status == 0, error
    assert {each["identity"] for each in csv.DictReader((tmp_path / "crops" / "crops.csv").open())} == {
        "=Anna",
        "000003",
    }
    made = [tmp_path / "crops", *(tmp_path / "crops").rglob("*")]
    assert {each.name for each in made if each.stat().st_mode & 0o077} == set()  # the folders bear names
    status, out, _ = command("review", results, video, "--apply")  # once more, over its own
    assert status == 0


def test_reviewed_people_become_a_gallery_that_knows_them(command, run, tmp_path):
    video, results = run
    refused(command("review", results, video, "--apply", "--gallery", tmp_path / "people"), "there is no review")
    log_of(results, {"do": "merge", "identity": 2, "into": 1}, {"do": "rename", "identity": 1, "name": "Anna"})
    status, out, error = command("review", results, video, "--apply", "--gallery", tmp_path / "people")
    assert status == 0 and out.splitlines()[-1] == f"2 people: {tmp_path / 'people'}", error
    gallery = open_gallery(tmp_path / "people")
    assert [(each.number, each.name) for each in gallery.people()] == [(1, "Anna"), (3, None)]
    assert gallery.new_numbers() == [4]
    moments = [view.time for view in gallery.views(1)]
    assert len(moments) >= 6 and moments == sorted(moments) and min(moments) < 1.5 and max(moments) > 2
    assert all(view.source == "walk" and view.crop for view in gallery.views(3))
    gallery.close()
    again = command("review", results, video, "--apply", "--gallery", tmp_path / "people")
    refused(again, "people: is there already, and its numbers are other people's")
    (tmp_path / "file").touch()  # refused before the page is served
    refused(command("review", results, video, "--gallery", tmp_path / "file"), "file: is there already")
    results.write_text(results.read_text().replace('"id": 3', '"id": 0'))
    refused(command("review", results, video, "--gallery", tmp_path / "new"), "begin at 1, and here is #0")
    refused(command("review", results, video, "--apply", "--embedder", "x"), "add --gallery")


def test_frames_without_anybody_are_lines_too(command, run, tmp_path):
    video, results = run
    lines = results.read_text().splitlines()
    results.write_text("\n".join(line for line in lines if 10 <= json.loads(line)["index"] < 30) + "\n")
    log_of(results, {"do": "drop", "identity": 3})
    assert command("review", results, video, "--apply")[0] == 0
    told = [json.loads(line) for line in (tmp_path / "walk_reviewed.jsonl").read_text().splitlines()]
    assert [each["index"] for each in told] == list(range(40))
    assert [each["timestamp"] for each in told] == pytest.approx([index / 10 for index in range(40)])
    assert [len(each["tracks"]) for each in told] == [int(10 <= n < 15 or 20 <= n < 30) for n in range(40)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "not a review"),
        ("{", "not a review"),
        ('{"edits": 3}', "not a review"),
        ("[" * 100_000, "not a review"),
        ('{"edits": [{"do": "drop", "identity": 77}]}', "change 1 does not fit these tracks. There is no #77"),
    ],
)
def test_a_file_that_is_no_review_of_these_tracks_is_refused(command, run, text, words):
    video, results = run
    results.with_name("walk_review.json").write_text(text)
    refused(command("review", results, video, "--apply"), words)


def test_what_cannot_be_reviewed_is_refused_before_anything_is_written(command, run, tmp_path):
    video, results = run
    refused(command("review", results, video, "--apply"), "there is no review to apply")
    refused(command("review", results, video, "--apply", "--serve", "127.0.0.1:0"), "leave out --serve")
    refused(command("review", tmp_path / "none.jsonl", video), "none.jsonl: cannot be read")
    refused(command("review", results, tmp_path / "none.mp4"), "none.mp4")
    (tmp_path / "empty.txt").write_text("")
    refused(command("review", tmp_path / "empty.txt", video), "holds no one")
    (tmp_path / "walk_reviewed.txt").write_text("mine")
    log_of(results, {"do": "drop", "identity": 1})
    refused(command("review", results, video, "--apply"), "walk_reviewed.txt")
    assert (tmp_path / "walk_reviewed.txt").read_text() == "mine"


def test_another_clock_than_the_videos_is_noticed(command, run, caplog):
    video, results = run
    log_of(results, {"do": "drop", "identity": 1})
    text = "".join(
        json.dumps({**json.loads(line), "timestamp": json.loads(line)["index"] / 7}) + "\n"
        for line in results.read_text().splitlines()
    )
    results.write_text(text)
    command("review", results, video, "--apply")
    assert "counts 7 frames a second, the video 10. If boxes do not fit the picture, give --fps 7" in caplog.text
    caplog.clear()
    command("review", results, video, "--apply", "--fps", 7)
    assert not caplog.text


@pytest.fixture
def page(run, tmp_path):
    """`reid-tracker review` in a process of its own, and the page's address."""
    video, results = run
    program = [sys.executable, "-m", "reid_tracker", "review", str(results), str(video), "--serve", "127.0.0.1:0"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    line = process.stdout.readline()
    yield process, re.search(r"http://\S+", line).group()
    process.kill()
    process.wait()


def test_a_run_is_reviewed_in_the_browser(browser, page, tmp_path):
    process, address = page
    browser.get(address.partition("?")[0])
    assert "Token" in browser.find_element(By.TAG_NAME, "body").text  # only whoever was told the address gets in
    browser.get_log("browser")
    browser.get(address)

    def find(selector):
        return browser.find_element(By.CSS_SELECTOR, selector)

    def press(*keys):
        find("body").send_keys(*keys)

    def type_in(*keys):  # wherever the cursor is: what was typed into may be shown anew meanwhile
        ActionChains(browser).send_keys(*keys).perform()

    def reviewed():
        log = tmp_path / "walk_review.json"
        if browser.execute_script("return busy"):
            return None  # the page does not show it yet
        return [each["do"] for each in json.loads(log.read_text())["edits"]] if log.exists() else []

    wait_until(lambda: browser.execute_script("return state && state.progress === 1 && video.readyState >= 2"))
    wait_until(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#people button")) == 3)
    wait_until(
        lambda: browser.execute_script("return [...document.querySelectorAll('img')].every(each => each.naturalWidth)")
    )
    # Whoever the newcomer may be is asked first; the boxes of the moment are drawn.
    assert "Is the newcomer #2 really #1?" in find("#doubt").text
    press("j", "k")
    wait_until(
        lambda: browser.execute_script("return shownAt(video.currentTime).map(row => row[2]).sort().join()") == "2,3"
    )
    press("y")
    wait_until(lambda: reviewed() == ["merge"])
    wait_until(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#people button")) == 2)
    press("u")
    wait_until(lambda: reviewed() == [])
    press("y")
    wait_until(lambda: reviewed() == ["merge"])
    browser.execute_script("choose(1)")
    assert barriers(browser) == []
    # A name, with keys that mean something elsewhere; a split; a merge that cannot be.
    browser.execute_script("choose(1)")
    find("#chosen input").click()
    type_in("Anny", Keys.ENTER)
    wait_until(lambda: reviewed() == ["merge", "rename"])
    browser.execute_script("choose(3); video.currentTime = 2.0")
    wait_until(lambda: browser.execute_script("return !video.seeking && shownAt(video.currentTime).length") == 2)
    press("s")
    wait_until(lambda: reviewed() == ["merge", "rename", "split"])
    browser.execute_script("choose(1)")
    find("#chosen input[inputmode]").click()
    type_in("3", Keys.ENTER)
    wait_until(lambda: "both in view" in find("#hint").text)
    said = [each["message"] for each in browser.get_log("browser") if "409" not in each["message"]]
    assert said == []
    find("#done").click()
    assert process.wait(timeout=20) == 0
    tracks = read_results(tmp_path / "walk_reviewed.jsonl")
    assert np.unique(tracks.identity).tolist() == [1, 3, 4] and tracks.names == {1: "Anny"}
    assert tracks.frame[tracks.identity == 4].min() == 21


def test_ctrl_c_writes_what_was_changed_and_another_review_is_noticed(browser, page, run, command, tmp_path):
    process, address = page
    _, results = run
    browser.get(address)
    wait_until(lambda: browser.execute_script("return state !== null"))
    ask = "return fetch('change', {method: 'POST', headers: {'content-type': 'application/json'}, body: arguments[0]})"
    ask += ".then(answer => answer.status)"
    for junk in ("[]", "3", '{"do": "merge"}', '{"do": "undo", "x": 1}', "null"):
        assert browser.execute_script(ask, junk) == 409, junk
    assert browser.execute_script(ask, '{"do": "drop", "identity": 3}') == 200
    log = log_of(results, {"do": "drop", "identity": 1})
    assert browser.execute_script(ask, '{"do": "drop", "identity": 2}') == 409
    assert json.loads(log.read_text())["edits"] == [{"do": "drop", "identity": 1}]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert set(read_results(tmp_path / "walk_reviewed.txt").identity.tolist()) == {1, 2}


def test_a_review_that_changes_nothing_is_one_too(page, tmp_path):
    process, _ = page
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    decided = list(csv.reader((tmp_path / "walk_reviewed.csv").open()))
    assert decided[1:] == [["1", "keep", ""], ["2", "keep", ""], ["3", "keep", ""]]
