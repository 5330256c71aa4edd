"""Servers that answer as none should, as a program of its own: `hostile.py KIND` prints its port, serves until killed.

Each connection gets the same: garbage, silence, the connection cut, bytes that never end (slowly, or fast), a header of
10 MB, a body without end, a body that is announced and does not come, words that would repaint a terminal.
"""

from __future__ import annotations

import os
import socketserver
import sys
import time

KIND = sys.argv[1]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"


ESCAPE = rb'{"detail": "gone\u001b[2J\u001b[1;1H all is well\r"}'
PIECES = {
    "garbage": [b"\x1b[31m\x00\xff" + os.urandom(4096)],
    "headers": [HEAD, *[b"X-Long: " + b"x" * 65536 + b"\r\n"] * 160],
    "escape": [b"HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n" % len(ESCAPE) + ESCAPE],
    "silence": [],
    "half": [HEAD + b"Content-Length: 100\r\n\r\nhalf"],
    "slow": [HEAD],
    "body": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n"],
}
# What comes after that without end, and the pause before each of it in seconds.
ENDLESS = {"silence": (b"", 3600), "half": (b"", 3600), "slow": (b"X-Slow: 1\r\n", 0.2), "body": (CHUNK, 0)}


class Hostile(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if KIND == "cut":
            return
        self.request.recv(4096)
        try:
            for piece in PIECES[KIND]:
                self.request.sendall(piece)
            while KIND in ENDLESS:
                piece, pause_s = ENDLESS[KIND]
                time.sleep(pause_s)
                self.request.sendall(piece)
        except OSError:
            pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


with Server(("127.0.0.1", 0), Hostile) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
