"""A camera that sends MJPEG over HTTP: mjpeg_server.py PORT VIDEO [USER:PASSWORD]. Prints a line when it listens."""

import base64
import itertools
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

port, video, *login = sys.argv[1:]
capture = cv2.VideoCapture(video)
rate = capture.get(cv2.CAP_PROP_FPS)
pictures = []
while (read := capture.read())[0]:
    pictures.append(cv2.imencode(".jpg", read[1])[1].tobytes())


class Camera(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(login[0].encode()).decode() if login else None
        if expected and self.headers.get("Authorization") != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        if self.path != "/camera":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        start = time.monotonic()
        for number, jpeg in enumerate(itertools.cycle(pictures)):
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                return  # the client is gone
            time.sleep(max(start + (number + 1) / rate - time.monotonic(), 0))

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(port)), Camera)
print("ready", flush=True)
server.serve_forever()
