"""An RTSP server of one H.264 mp4, for the system's Python: rtsp_server.py PORT VIDEO [USER:PASSWORD] [--udp].

Each client sees the video from its beginning, at its own pace. Prints a line when it listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

port, video, *login = [each for each in sys.argv[1:] if each != "--udp"]
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(f'( filesrc location="{video}" ! qtdemux ! rtph264pay name=pay0 )')
if "--udp" in sys.argv:  # as some cameras, it knows no other way
    factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
if login:
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "guest")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*login[0].split(":")), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for right in ("access", "construct"):
        permissions.add_permission_for_role("guest", f"media.factory.{right}", True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/camera", factory)
if not server.attach(None):
    sys.exit("cannot listen")
print("ready", flush=True)
GLib.MainLoop().run()
