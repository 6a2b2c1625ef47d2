"""The page in a browser: it moves, people appear, names stick, strangers stay outside."""

import os
import threading
import time
from contextlib import suppress

import pytest
from live_world import ColorDetector, ColorEmbedder, barriers, free_port, wait_until
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from reid_tracker.config import LiveConfig, load
from reid_tracker.live.run import run_live


@pytest.fixture
def address(serve, tmp_path):
    """A live run of a camera, behind a token; ends after the test."""
    stopping, started, told = threading.Event(), threading.Event(), []
    settings = {"output.serve": f"127.0.0.1:{free_port()}", "tracker.memory_seconds": 0}
    config = load(LiveConfig, None, settings)
    thread = threading.Thread(
        target=run_live,
        daemon=True,
        args=([serve("mjpeg").url], config),
        kwargs={
            "token": "open-sesame",
            "detector": ColorDetector(),
            "embedder": ColorEmbedder(),
            "stopping": stopping,
            "started": lambda address: (told.append(address), started.set()),
        },
    )
    thread.start()
    assert started.wait(60)
    yield told[0]
    stopping.set()
    thread.join(10)
    assert not thread.is_alive()


def test_the_page(browser, address):
    def find(selector):
        return browser.find_elements(By.CSS_SELECTOR, selector)

    def pixels():
        return browser.execute_script(
            "const c = document.querySelector('canvas'); return c ? [c.width, c.height,"
            "Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).reduce((a, b) => a + b)] : []"
        )

    def press(*keys):
        browser.switch_to.active_element.send_keys(*keys)

    page, _, token = address.partition("?")
    browser.get(page)
    assert "Token" in find("body")[0].text and not find("canvas")  # refused
    browser.get(f"{page}?token=wrong")
    assert not find("canvas")
    find("input")[0].send_keys(token.partition("=")[2], Keys.ENTER)  # accepted, by typing it
    wait_until(lambda: find("canvas"))
    assert browser.current_url == page  # the token does not stay in the address

    def frames():
        return int(find("canvas")[0].get_attribute("data-frames") or 0)

    wait_until(lambda: frames() > 3)
    before = pixels()
    assert before[:2] == [320, 240]
    wait_until(lambda: pixels()[2] != before[2], 3)  # the picture moves
    count, start = frames(), time.monotonic()
    wait_until(lambda: frames() >= count + 15)
    assert time.monotonic() - start < 4  # smoothly: the camera has 10 frames a second
    wait_until(lambda: len(find("#view li")) >= 2 and len(find("#seen tr")) >= 3)
    wait_until(lambda: any(each.get_property("naturalWidth") for each in find("#view img")))  # their pictures
    assert "in view" in find("#summary")[0].text and "fps" in find("figcaption")[0].text

    # A name by keyboard alone, from whichever row has the standing person.
    browser.execute_script(
        "const plain = window.fetch; window.loads = 0; let go; const held = new Promise((done) => { go = done; });"
        "window.release = () => { window.fetch = plain; go(); };"
        "window.fetch = async (path, rest) => { window.loads += 1; if (rest) await held;"
        "const answer = await plain(path, rest); if (rest) window.saved = true; return answer; };"
    )
    row = find("#seen tr")[-1]
    number = row.get_attribute("data-person")
    browser.execute_script("arguments[0].focus()", row.find_element(By.CSS_SELECTOR, "button.name"))
    press(Keys.ENTER)
    press("Ada <b>Lovelace</b>", Keys.ENTER)
    name = f"#seen tr[data-person='{number}'] button.name"
    loads = browser.execute_script("return window.loads")
    # Saving takes long, and the table that is fetched meanwhile knows nothing of it.
    wait_until(lambda: browser.execute_script("return window.loads") > loads + 1)
    assert find(name)[0].text == "Ada <b>Lovelace</b>"
    browser.execute_script("window.release()")
    wait_until(lambda: browser.execute_script("return window.saved"))
    press(Keys.ENTER)
    press("somebody else", Keys.ESCAPE)  # thought better of
    if folder := os.environ.get("REID_TRACKER_SCREENSHOTS"):
        browser.save_screenshot(f"{folder}/page.png")
    assert barriers(browser) == []
    browser.refresh()
    wait_until(lambda: find(name))
    assert find(name)[0].text == "Ada <b>Lovelace</b>"

    # Two people become one, and the name stays.
    rows = {each.get_attribute("data-person"): each for each in find("#seen tr")}
    other = next(each for each in rows if each != number)
    for each in (number, other):
        browser.execute_script("arguments[0].focus()", rows[each].find_element(By.CSS_SELECTOR, "input"))
        press(Keys.SPACE)
    find("#merge")[0].click()
    with suppress(NoAlertPresentException):  # it asks where both are in view at this moment
        assert "both in view now" in browser.switch_to.alert.text
        browser.switch_to.alert.accept()
    kept, gone = sorted((number, other), key=int)
    wait_until(lambda: not find(f"#seen tr[data-person='{gone}']"))
    wait_until(lambda: find(f"#seen tr[data-person='{kept}'] button.name")[0].text == "Ada <b>Lovelace</b>")
    wait_until(lambda: find("#undone")[0].is_displayed())
    assert find("#undone")[0].text.startswith(f"#{gone} is part of #{kept} now.")
    find("#undo")[0].click()  # and two again
    wait_until(lambda: find(f"#seen tr[data-person='{gone}']") and not find("#undone")[0].is_displayed())
    assert find(name)[0].text == "Ada <b>Lovelace</b>"

    # Nothing was asked of any other host, and nothing went wrong.
    urls = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert urls and not [url for url in urls if "https://" in url]
    bad = [
        entry
        for entry in browser.get_log("browser")  # of this page: the browser is shared with tests of others
        if entry["level"] == "SEVERE" and page in entry["message"] and "401" not in entry["message"]
    ]
    assert bad == []
