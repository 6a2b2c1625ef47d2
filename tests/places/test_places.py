"""Places: a file of lines and zones, drawn in a browser, for `track` and `report`."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from command_world import make_clip, refused
from live_world import barriers, wait_until
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from reid_tracker.errors import UserError
from reid_tracker.places.files import MOST_BYTES, Places, parse, read, write

DOOR = {"size": [160, 120], "lines": {"door": [[50, 119], [50, 0]]}, "zones": {"yard": [[0, 0], [70, 0], [70, 120]]}}


def test_a_file_is_read_as_it_was_written(tmp_path):
    places = parse(DOOR, "here")
    (tmp_path / "places.yaml").write_text(write(places))
    again = read(tmp_path / "places.yaml")
    assert again.size == (160, 120) and list(again.shapes) == ["door", "yard"]
    for name, points in places.shapes.items():
        np.testing.assert_array_equal(again.shapes[name], points)


def test_places_grow_with_the_picture_and_only_in_one_of_its_shape():
    places = parse(DOOR, "here").within(320, 240, "a.mp4")
    np.testing.assert_array_equal(places.shapes["door"], [[100, 238], [100, 0]])
    with pytest.raises(UserError, match=r"a\.mp4: its picture is 320x320, but the places were drawn in one of 160x120"):
        parse(DOOR, "here").within(320, 320, "a.mp4")
    with pytest.raises(UserError, match=r"'far' lies outside of its picture, which is 160x120"):
        Places({"far": np.array([[200.0, 10], [300, 10]], np.float32)}).within(160, 120, "a.mp4")


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "lines: {door: [[0, 0], [1, 1]], door: [[0, 0], [9, 9]]}",
        "door: [[0, 0], [1, 1]]",
        "lines: {door: [[0, 0]]}",
        "lines: {door: [[0, 0], [1, 1], [2, 2]]}",
        "zones: {yard: [[0, 0], [1, 1]]}",
        "lines: {door: [[0, 0], [.nan, 1]]}",
        "lines: {door: [[0, 0], [true, 1]]}",
        "lines: {door: [[3, 3], [3, 3]]}",
        "lines: {door: [[0, 0], [1, 1e9]]}",
        f"lines: {{door: [[0, 0], [1, {10**400}]]}}",
        "lines: {door: [[0, 0], [1, 1.0e+300]]}",
        f"size: [160, {10**400}]\nlines: {{door: [[0, 0], [9, 9]]}}",
        'lines: {"do\\u001b[31mor": [[0, 0], [1, 1]]}',
        "lines: {'': [[0, 0], [1, 1]]}",
        "lines: {door: [[0, 0], [9, 9]]}\nzones: {door: [[0, 0], [9, 9], [0, 9]]}",
        "size: [160]\nlines: {door: [[0, 0], [9, 9]]}",
        "size: [160, -1]\nlines: {door: [[0, 0], [9, 9]]}",
        "lines: [[0, 0], [1, 1]]",
        "lines: {door: !!python/object/apply:os.system [echo]}",
        "lines: {door: 2001-99-99}",
        "a: &a [*a, *a]\n---\nb: 1",
        "{" * 3000,
        "\x00",
        "#" * (MOST_BYTES + 1),
    ],
    ids=lambda text: text[:30],
)
@pytest.mark.filterwarnings("error")
def test_anything_else_is_refused_in_one_sentence(tmp_path, text):
    (tmp_path / "places.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^.*places\.yaml: .+") as refusal:
        read(tmp_path / "places.yaml")
    assert "\x1b" not in str(refusal.value)


def test_track_and_report_count_at_the_places_of_a_file(command, tmp_path):
    clip, file = make_clip(tmp_path / "in" / "walk.mp4"), tmp_path / "shop.yaml"
    file.write_text(yaml.safe_dump(DOOR))
    status, out, err = command.track(
        clip, tmp_path / "out", "--jsonl", "--places", file, "--line", "wall=100,119 100,0"
    )
    assert status == 0, err
    assert "door: 0 in (0 people), 1 out (1 person)" in out
    counts = json.loads((tmp_path / "out" / "walk_counts.json").read_text())
    assert {*counts["lines"]} == {"door", "wall"} and {*counts["zones"]} == {"yard"}
    assert command.track(clip, tmp_path / "alone", "--mot", "--places", file)[0] == 0
    assert "door" in json.loads((tmp_path / "alone" / "walk_counts.json").read_text())["lines"]
    status, out, err = command("report", tmp_path / "out" / "walk.jsonl", "--video", clip, "--places", file)
    assert status == 0, err
    assert "door" in (tmp_path / "out" / "walk_visits.csv").read_text()
    # Those of a file grow with the picture; a line of the command is in the video's own px.
    file.write_text(yaml.safe_dump(DOOR | {"size": [80, 60], "lines": {"door": [[25, 59.5], [25, 0]]}, "zones": {}}))
    status, out, err = command.track(clip, tmp_path / "out", "--places", file, "--line", "mark=50,119 50,0")
    assert (status, "door: 0 in (0 people), 1 out" in out, "mark: 0 in (0 people), 1 out" in out) == (0, True, True), (
        err
    )
    file.write_text(yaml.safe_dump(DOOR))
    refused(command.track(clip, tmp_path / "out", "--places", file, "--line", "door=1,1 9,9"), "shop.yaml", "'door'")
    refused(command.track(clip, tmp_path / "out", "--line", "far=200,1 300,9"), "'far'", "160x120")
    for other in (tmp_path / "none.yaml", tmp_path, "/dev/zero"):
        refused(command.track(clip, tmp_path / "out", "--places", other), str(other))
    refused(command.track(clip, tmp_path / "out", "--set", "tracker.lost_seconds={2001-99-99"), "not YAML")
    # An input is never an output.
    file.rename(tmp_path / "walk.txt")
    assert command.track(clip, tmp_path, "--mot", "--places", tmp_path / "walk.txt")[0] == 2
    assert yaml.safe_load((tmp_path / "walk.txt").read_text()) == DOOR


def test_a_preview_shows_the_places_without_a_browser(command, tmp_path):
    clip, file = make_clip(tmp_path / "walk.mp4"), tmp_path / "places.yaml"
    file.write_text(yaml.safe_dump(DOOR))
    status, out, err = command("places", clip, "-o", file, "--preview", tmp_path / "drawn.png")
    assert (status, out.strip()) == (0, str(tmp_path / "drawn.png")), err
    picture = cv2.imread(str(tmp_path / "drawn.png"))
    assert picture.shape == (120, 160, 3)
    assert (tmp_path / "drawn.png").stat().st_mode & 0o077 == 0  # it may show people
    on_line, beside = picture[60, 50].astype(int), picture[60, 100].astype(int)
    assert on_line.max() > 150 > beside.max()  # the colour of the first place; the clip is dark there
    refused(command("places", clip, "-o", file, "--preview", tmp_path / "drawn.jpg"), "drawn.jpg", ".png")
    refused(command("places", clip, "-o", tmp_path / "none.yaml", "--preview", tmp_path / "b.png"), "none.yaml")
    refused(command("places", clip, "-o", file, "--preview", tmp_path / "b.png", "--at", "1:00"), "no frame", "3.0 s")


@pytest.fixture
def page(tmp_path):
    """`reid-tracker places` in a process of its own, as its user starts it: process, address and file."""
    clip, file = make_clip(tmp_path / "walk.mp4"), tmp_path / "places.yaml"
    words = [sys.executable, "-m", "reid_tracker", "places", str(clip), "-o", str(file)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    match = re.search(r"http://\S+", process.stdout.readline())
    assert match, process.communicate()
    yield process, match[0], file
    process.kill()
    process.communicate()


def test_places_are_drawn_named_saved_and_changed_in_the_browser(browser, page):
    process, address, file = page
    browser.get(address.partition("?")[0])
    assert "Token" in browser.find_element(By.TAG_NAME, "body").text  # only whoever was told the address gets in
    browser.get(address)

    def find(selector):
        return browser.find_element(By.CSS_SELECTOR, selector)

    def click_at(*spots):
        box = find("#drawing").rect
        for x, y in spots:
            offset = (
                round(x / 160 * box["width"] - box["width"] / 2),
                round(y / 120 * box["height"] - box["height"] / 2),
            )
            ActionChains(browser).move_to_element_with_offset(find("#drawing"), *offset).click().perform()

    wait_until(lambda: "walk.mp4" in find("h1").text and find("#still").get_property("naturalWidth"))
    assert find("#none").is_displayed()
    find("#line").click()
    click_at((50, 110), (50, 10))
    browser.switch_to.active_element.send_keys("door")
    find("#zone").click()
    click_at((90, 20), (140, 20), (140, 90))
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    browser.switch_to.active_element.send_keys("door")
    find("#save").click()
    wait_until(lambda: "name them differently" in find("#hint").text)  # two of one name
    assert not file.exists()
    browser.find_elements(By.CSS_SELECTOR, "#list input")[1].send_keys(" two")
    if folder := os.environ.get("REID_TRACKER_SCREENSHOTS"):
        browser.save_screenshot(f"{folder}/places.png")
    assert barriers(browser) == []
    find("#save").click()
    wait_until(lambda: find("#hint").text == "Saved.")
    kept = read(file)
    assert kept.size == (160, 120) and {*kept.shapes} == {"door", "door two"}
    np.testing.assert_allclose(kept.shapes["door"], [[50, 110], [50, 10]], atol=1.5)
    np.testing.assert_allclose(kept.shapes["door two"], [[90, 20], [140, 20], [140, 90]], atol=1.5)
    # Turned, a corner moved, one removed: saved by Done.
    find("#list li:first-child button[title]").click()
    corner = browser.find_elements(By.CSS_SELECTOR, "#drawing circle")[4]
    ActionChains(browser).drag_and_drop_by_offset(corner, 0, 40).perform()
    find("#done").click()
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out.strip()) == (0, str(file)), err
    again = read(file)
    np.testing.assert_allclose(again.shapes["door"], [[50, 10], [50, 110]], atol=1.5)
    assert again.shapes["door two"][2, 1] > kept.shapes["door two"][2, 1] + 2
    # Of this page: the browser is shared with tests of others.
    origin = address.partition("?")[0]
    said = [each["message"] for each in browser.get_log("browser") if each["level"] == "SEVERE"]
    assert [each for each in said if origin in each and " 401 " not in each] == []


def test_a_file_of_somebody_elses_is_kept_and_ctrl_c_without_saving_is_said(command, tmp_path, page):
    process, _, _ = page
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in err
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(DOOR))
    refused(command("places", tmp_path / "walk.mp4", "-o", tmp_path / "own.yaml"), "own.yaml", "--overwrite")
    assert yaml.safe_load(Path(tmp_path / "own.yaml").read_text()) == DOOR
