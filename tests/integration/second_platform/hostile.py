"""Servers that answer as none should, as a program of its own: `hostile.py KIND` prints its port, serves until killed.

Each connection gets the same: garbage, silence, the connection cut, bytes that never end (slowly, or fast), a header of
10 MB, a body without end, a body that is announced and does not come.
"""

from __future__ import annotations

import os
import socketserver
import sys
import time

KIND = sys.argv[1]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"


def answers() -> object:
    """The pieces that are sent one after the other, and the pause between them in seconds."""
    if KIND == "garbage":
        yield b"\x1b[31m\x00\xff" + os.urandom(4096), 0
    elif KIND == "silence":
        yield b"", 3600
    elif KIND == "slow":
        yield HEAD, 0
        while True:
            yield b"X-Slow: 1\r\n", 0.2
    elif KIND == "headers":
        yield HEAD, 0
        for _ in range(160):
            yield b"X-Long: " + b"x" * 65536 + b"\r\n", 0
    elif KIND == "body":
        yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n", 0
        while True:
            yield CHUNK, 0
    elif KIND == "half":
        yield HEAD + b"Content-Length: 100\r\n\r\nhalf", 3600


class Hostile(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if KIND == "cut":
            return
        self.request.recv(4096)
        try:
            for piece, pause_s in answers():
                self.request.sendall(piece)
                time.sleep(pause_s)
        except OSError:
            pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


with Server(("127.0.0.1", 0), Hostile) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
