"""The log of events and those who are told."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from live_world import free_port, wait_until

from reid_tracker.errors import UserError
from reid_tracker.live import events
from reid_tracker.live.events import EventLog, Webhook

APPEARED = {"event": "appeared", "time": 1_767_225_600.25, "person": 3, "name": "", "camera": "hall"}


@pytest.fixture
def receiver():
    """A server of webhooks that answers as told, then always 200; what it got."""
    answers, got = [], []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = answers.pop(0) if answers else 200
            got.append((status, body["id"], self.headers["Content-Type"], self.headers["Authorization"]))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", answers, got
    server.shutdown()
    server.server_close()


def test_events_are_numbered_timed_and_kept_so_far(monkeypatch):
    monkeypatch.setattr(events, "KEPT", 5)
    log, heard = EventLog(0), []
    log.listen(heard.append)
    for _ in range(7):
        log.add(APPEARED)
    assert heard[0] == {**APPEARED, "id": 1, "time": "2026-01-01T00:00:00.250Z"}
    assert [event["id"] for event in log.after(0)] == [3, 4, 5, 6, 7] and log.after(6) == heard[6:]
    assert log.counts["appeared"] == 7


def test_a_webhook_is_tried_again_until_it_takes_the_event(receiver):
    url, answers, got = receiver
    answers += [500, 503]
    hook = Webhook(url, first_wait=0.01)
    log = EventLog(0)
    log.listen(hook.put)
    log.add(APPEARED)
    log.add(APPEARED)
    wait_until(lambda: hook.delivered == 2)
    hook.close()
    assert [each[:2] for each in got] == [(500, 1), (503, 1), (200, 1), (200, 2)] and hook.lost == 0
    assert got[0][2] == "application/json"


def test_what_a_webhook_refuses_is_not_tried_again(receiver):
    url, answers, got = receiver
    answers.append(404)
    hook = Webhook(url, first_wait=0.01)
    for number in (1, 2):
        hook.put({**APPEARED, "id": number})
    wait_until(lambda: hook.delivered == 1)
    assert [each[:2] for each in got] == [(404, 1), (200, 2)] and hook.lost == 1


def test_a_dead_webhook_costs_nobody_else_anything(monkeypatch, caplog):
    monkeypatch.setattr(events, "WAITING", 10)
    hook = Webhook(f"http://user:pw@127.0.0.1:{free_port()}/hook?key=secret", first_wait=0.001)
    start = time.monotonic()
    for number in range(500):
        hook.put({**APPEARED, "id": number})
    assert time.monotonic() - start < 0.5 and hook.lost > 400
    wait_until(lambda: hook._waiting.empty())
    hook.close(0.5)
    assert hook.delivered == 0 and caplog.text.count("could not be delivered") == 1
    assert "secret" not in caplog.text and "pw" not in caplog.text
    for wrong in ("ftp://host/hook", "http://[x", "http://host:port/", "http://host:99999/", "http:///hook", "host"):
        with pytest.raises(UserError, match="give a URL such as http"):
            Webhook(wrong)


def test_a_webhook_that_is_sent_elsewhere_is_not_followed(receiver):
    """It would arrive as a GET, without the event."""
    url, answers, got = receiver
    answers += [302, 307]
    hook = Webhook(url, first_wait=0.01)
    for number in (1, 2, 3):
        hook.put({**APPEARED, "id": number})
    wait_until(lambda: hook.delivered == 1)
    assert [each[:2] for each in got] == [(302, 1), (307, 2), (200, 3)] and hook.lost == 2
    hook.close()


def test_a_webhook_s_user_and_password_go_into_the_header(receiver):
    url, _, got = receiver
    hook = Webhook(url.replace("//", "//ada:s%2Fx@"), first_wait=0.01)
    hook.put({**APPEARED, "id": 1})
    wait_until(lambda: hook.delivered == 1)
    assert got[0][3] == "Basic " + base64.b64encode(b"ada:s/x").decode()
    hook.close()


def test_events_of_a_later_run_have_larger_numbers():
    first = EventLog()
    first.add(APPEARED)
    time.sleep(0.01)
    assert EventLog().last > first.last
