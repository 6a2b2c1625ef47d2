"""The page's server as a browser, a scraper and a stranger meet it."""

import json
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from live_world import free_port, picture, wait_until
from tracking_world import detections, person
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from reid_tracker.errors import UserError
from reid_tracker.live import server
from reid_tracker.live.events import EventLog
from reid_tracker.live.people import People
from reid_tracker.live.server import Page
from reid_tracker.web import limits
from reid_tracker.web.guard import is_local, listen, parse_address

TOKEN = "open-sesame"
FIGURES = {"status": "live", "error": "", "fps": 9.5, "delay": 0.1, "frames": 7, "received": 9, "dropped": 1}


class Site:
    """A page that shows what the test tells it."""

    def __init__(self, token="", host="127.0.0.1"):
        self.events = EventLog(0)
        self.people = People(emit=self.events.add)
        self.port = free_port()
        cameras = [{"name": 'hall "A"', "reconnects": 2, **FIGURES}, {"name": "yard", "reconnects": 0, **FIGURES}]
        self.page = Page(listen(host, self.port), token, self.people, self.events, lambda: cameras)

    def see(self, numbers, now=None):
        now = time.monotonic() if now is None else now
        tracks = detections([person(50 * number) for number in numbers])
        tracks.tracker_id, tracks.data["tracklet"] = np.array(numbers), np.array(numbers)
        self.people.see("yard", tracks, now, np.full((240, 320, 3), 99, np.uint8))

    def ask(self, path, body=None, **headers):
        """Status, text and headers of an answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            answer = urllib.request.build_opener(NoRedirect).open(request, timeout=5)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.read(), answer.headers

    def socket(self, query="", **options):
        return connect(f"ws://127.0.0.1:{self.port}/socket{query}", **options)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


@pytest.fixture
def site():
    site = Site()
    yield site
    site.page.close()


@pytest.fixture
def guarded():
    site = Site(TOKEN)
    yield site
    site.page.close()


ROUTES = ["/", "/static/page.js", "/state", "/people", "/people/1/crop", "/events", "/metrics", "/nowhere"]


def test_without_the_token_nothing_is_shown(guarded):
    guarded.see([1])
    for path in ROUTES:
        status, text, _ = guarded.ask(path)
        assert status == 401 and b"yard" not in text
        assert guarded.ask(path, authorization="Bearer wrong")[0] == 401
    for path in ("/people/1/name", "/people/1/merge"):
        assert guarded.ask(path, {"name": "x", "other": 2})[0] == 401
    for query in ("", "?token=wrong"):
        with pytest.raises(InvalidStatus) as refused:
            guarded.socket(query)
        assert refused.value.response.status_code in (401, 403)
    assert guarded.people.label(1) == "#1"


def test_the_token_opens_every_route_by_header_query_or_cookie(guarded):
    guarded.see([1])
    assert guarded.ask("/state", authorization=f"Bearer {TOKEN}")[0] == 200
    assert guarded.ask(f"/metrics?token={TOKEN}")[0] == 200
    status, _, headers = guarded.ask(f"/?token={TOKEN}")
    cookie = headers["Set-Cookie"]
    assert status == 303 and "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in headers["Location"]
    status, text, headers = guarded.ask("/", cookie=cookie.partition(";")[0])
    assert status == 200 and b"Everyone seen" in text and "default-src 'self'" in headers["Content-Security-Policy"]
    assert guarded.ask("/people/1/name", {"name": "Ada"}, cookie=cookie.partition(";")[0])[0] == 204
    with guarded.socket(f"?token={TOKEN}") as client:
        assert json.loads(client.recv())["seen"] == 1


def test_another_sites_page_gets_nothing(site):
    site.see([1])
    assert site.ask("/state", host="evil.example")[0] == 403  # a foreign name that leads to this machine
    assert site.ask("/people/1/name", {"name": "x"}, origin="http://evil.example")[0] == 403
    with pytest.raises(InvalidStatus):
        site.socket(origin="http://evil.example")
    assert site.ask("/people/1/name", {"name": "x"}, origin=f"http://127.0.0.1:{site.port}")[0] == 204


def test_names_and_merges_are_kept_or_refused_in_a_sentence(site):
    site.see([1, 2])
    assert site.ask("/people/2/name", {"name": "Ada"})[0] == 204
    assert site.ask("/people/1/merge", {"other": 2})[0] == 204
    (kept,) = json.loads(site.ask("/people")[1])
    assert (kept["person"], kept["name"]) == (1, "Ada")
    status, text, _ = site.ask("/people/7/name", {"name": "Bob"})
    assert status == 409 and json.loads(text)["error"] == "person 7: nobody has this number; reload the page."
    assert site.ask("/people/1/name", {"name": 1000 * "x"})[0] == 400
    status, jpeg, headers = site.ask("/people/1/crop")
    assert status == 200 and jpeg[:2] == b"\xff\xd8" and headers["Content-Type"] == "image/jpeg"
    assert site.ask("/people/9/crop")[0] == 404


def test_metrics_are_prometheus_text(site):
    site.see([1, 2])
    text = site.ask("/metrics")[1].decode()
    assert 'reid_tracker_frames_dropped_total{camera="yard"} 1\n' in text
    assert r'reid_tracker_reconnects_total{camera="hall \"A\""} 2' in text
    assert "\nreid_tracker_people_in_view 2\n" in text and "\nreid_tracker_people_total 2\n" in text
    for line in text.splitlines():
        assert line.startswith("# TYPE ") or float(line.rpartition(" ")[2]) >= 0


def test_events_are_streamed_from_where_the_client_was(site):
    start = time.monotonic() - 100
    site.see([1], start)
    site.see([1], start + 2)
    request = urllib.request.Request(f"http://127.0.0.1:{site.port}/events", headers={"Last-Event-ID": "0"})
    with urllib.request.urlopen(request, timeout=5) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert [stream.readline() for _ in range(2)] == [b"id: 1\n", b"event: appeared\n"]
        event = json.loads(stream.readline().removeprefix(b"data: "))
        assert (event["person"], event["camera"], event["event"]) == (1, "yard", "appeared")
        stream.readline()
        site.see([1], start + 50)
        assert [stream.readline() for _ in range(2)] == [b"id: 2\n", b"event: left\n"]
    with urllib.request.urlopen(f"http://127.0.0.1:{site.port}/events?after=2", timeout=5) as stream:
        assert stream.readline() == b"id: 3\n"


def test_pictures_come_as_fast_as_they_are_confirmed_and_never_old(site):
    with site.socket() as client:
        assert json.loads(client.recv())["cameras"][1]["name"] == "yard"
        for index in range(50):
            site.page.show(1, picture(index), time.monotonic())
            time.sleep(0.002)
        got = [client.recv(timeout=1) for _ in range(2)]
        assert all(each[0] == 1 and each[1:3] == b"\xff\xd8" for each in got)
        with pytest.raises(TimeoutError):  # nothing more until the client has shown those, not even a state
            client.recv(timeout=0.8)
        client.send("1")
        newest = client.recv(timeout=1)
        client.send("1")
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.2)  # of the others none is sent any more
        client.send("-1")
        assert json.loads(client.recv(timeout=1))["screen_delay"] > 0
        site.page.show(0, picture(0), time.monotonic())
        assert client.recv(timeout=1)[0] == 0 and newest[0] == 1


def test_a_client_that_never_reads_costs_little_and_is_let_go(site, monkeypatch):
    monkeypatch.setattr(server, "SILENT_SECONDS", 1.5)
    noise = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), dtype=np.uint8)  # a megabyte as JPEG
    deaf = socket.create_connection(("127.0.0.1", site.port))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sendall(
        f"GET /socket HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    wait_until(lambda: site.page._watching == 1)
    with site.socket(max_size=None) as good:
        json.loads(good.recv())
        for _ in range(12):
            start = time.monotonic()
            site.page.show(0, noise, start)
            assert len(good.recv(timeout=2)) > 500_000
            good.send("0")
            assert site.ask("/state")[0] == 200
        wait_until(lambda: site.page._watching == 1, 6)
    deaf.close()


def test_a_client_that_reads_no_answer_is_cut_off(site, monkeypatch):
    monkeypatch.setattr(limits, "SILENT_SECONDS", 1.0)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    deaf.connect(("127.0.0.1", site.port))
    request = f"GET /static/page.js HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode()
    with pytest.raises((ConnectionError, TimeoutError)):
        deaf.settimeout(10)
        for _ in range(5000):
            deaf.sendall(request)
            time.sleep(0.01)
    deaf.close()
    assert site.ask("/state")[0] == 200


def test_there_is_an_end_to_clients(site, monkeypatch):
    monkeypatch.setattr(server, "CLIENTS", 2)
    with site.socket() as one, site.socket() as two, site.socket() as three:
        assert one.recv() and two.recv()
        with pytest.raises(ConnectionClosed):
            three.recv(timeout=2)
        assert site.ask("/events")[0] == 503


def test_addresses():
    assert parse_address(":8000") == ("127.0.0.1", 8000) == parse_address("8000")
    assert parse_address("[::1]:80") == ("::1", 80) and parse_address("0.0.0.0:1")[0] == "0.0.0.0"
    for text in ("localhost", "host:port", "host:99999"):
        with pytest.raises(UserError, match="write HOST:PORT"):
            parse_address(text)
    assert [is_local(host) for host in ("127.0.0.9", "localhost", "::1", "0.0.0.0", "10.0.0.1", "name")] == 3 * [
        True
    ] + 3 * [False]
    in_use = pytest.raises(UserError, match="the port is in use by another program; choose another")
    with socket.create_server(("127.0.0.1", 0)) as taken, in_use:
        listen(*taken.getsockname()[:2])
    with pytest.raises(UserError, match="cannot listen there"):
        listen("192.0.2.1", 8000)


def raw(site, *lines, body=b"", wait=5.0):
    """Send a request as it is; the answer's first line, empty where there is none."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=wait) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return connection.makefile("rb").readline().decode()


@pytest.mark.parametrize(
    "header",
    ["Host: a:99999", "Host: [", "Host: 127.0.0.1\r\nOrigin: http://[", "Host: 127.0.0.1\r\nOrigin: http://a:99999"],
)
def test_headers_that_cannot_be_read_are_refused(site, header):
    assert " 400 " in raw(site, "GET /state HTTP/1.1", header)


def test_a_body_that_is_too_long_is_refused_before_it_is_read(guarded):
    for token in ("", f"Authorization: Bearer {TOKEN}"):
        lines = ["POST /people/1/name HTTP/1.1", "Host: 127.0.0.1", *([token] if token else [])]
        assert " 413 " in raw(guarded, *lines, "Content-Length: 400000000")
        assert " 413 " in raw(guarded, *lines, "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize("body", [b'{"name": "\\ud800"}', b'{"name": NaN}', b'{"name": 1e999}', b"{", b"[[[", b"\xff"])
def test_a_name_that_cannot_be_one_is_refused_in_a_sentence(site, body):
    site.see([1])
    lines = ["POST /people/1/name HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    answer = raw(site, *lines, f"Content-Length: {len(body)}", body=body)
    assert " 400 " in answer or " 204 " in answer
    assert site.people.label(1) == "#1"
    assert site.ask("/people/1/merge", {"other": 10**400})[0] in (400, 409)
    assert site.ask("/events?after=" + 5000 * "9")[0] == 400


def test_a_long_number_of_the_last_event_counts_as_none(site):
    request = urllib.request.Request(f"http://127.0.0.1:{site.port}/events", headers={"Last-Event-ID": 5000 * "9"})
    with urllib.request.urlopen(request, timeout=5) as stream:
        assert stream.status == 200


def test_requests_that_never_end_make_room_and_are_ended(guarded, monkeypatch):
    """Without any token: whoever has one is answered meanwhile, and nothing of them is left."""
    monkeypatch.setattr(limits, "CONNECTIONS", 20)
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 1.5)
    begun = b"GET /state HTTP/1.1\r\nHost: x\r\nX: "
    half = [socket.create_connection(("127.0.0.1", guarded.port)) for _ in range(100)]
    slow_body = b"POST /people/1/name HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\nx"
    for number, each in enumerate(half):
        with suppress(OSError):
            each.sendall(begun if number % 2 else slow_body)
    for _ in range(5):
        assert guarded.ask("/state", authorization=f"Bearer {TOKEN}")[0] == 200
    wait_until(lambda: not limits.LimitedProtocol.waiting, 10)
    for each in half:
        each.settimeout(2)
        with suppress(ConnectionError):
            while each.recv(1000):
                pass
        each.close()


def test_a_socket_that_sends_anything_costs_nothing(site):
    for text in ("9" * 60, "x", "1" * 65):
        with site.socket() as client, suppress(ConnectionClosed):
            client.recv()
            for _ in range(50):
                client.send(text)
    with site.socket() as client:
        client.recv()
        for number in range(300):
            client.send(str(number))
        wait_until(lambda: site.ask("/state")[0] == 200)
    wait_until(lambda: not site.page._clients)


def test_event_clients_have_an_end_however_many_come_at_once(site, monkeypatch):
    monkeypatch.setattr(server, "CLIENTS", 5)
    with ThreadPoolExecutor(30) as pool:
        streams = list(pool.map(lambda _: open_stream(site), range(30)))
    assert sum(each is not None for each in streams) == 5
    for each in filter(None, streams):
        each.close()
    site.see([1])
    site.see([1], time.monotonic() + 2)
    wait_until(lambda: not site.page._clients, 20)


def open_stream(site):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{site.port}/events", timeout=10)
    except urllib.error.HTTPError as error:
        assert error.status == 503
        return None


def test_a_refusal_is_heard_though_the_body_comes_late(guarded):
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=5) as connection:
        connection.sendall(b"POST /people/1/name HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n")
        time.sleep(0.3)
        connection.sendall(b'{"name":1')
        assert b" 401 " in connection.makefile("rb").readline()
