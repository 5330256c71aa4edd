"""A web server in a process of its own, so that it can be frozen and killed: `web_server.py PORT` (0: any, printed).

/ok answers 200, /unready 503 with a reason, /slow/0.5 after so many seconds, /connections how many were accepted.
"""

from __future__ import annotations

import asyncio
import sys

accepted = 0


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Requests of one connection, until it says that it is the last or goes away."""
    global accepted  # noqa: PLW0603 - one process, one count
    accepted += 1
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(maxsplit=2)[1].decode()
            status, body = "200 OK", b"fine"
            if path == "/unready":
                status, body = "503 Service Unavailable", b'{"detail": "the database does not answer"}'
            elif path == "/connections":
                body = str(accepted).encode()
            elif path.startswith("/slow/"):
                await asyncio.sleep(float(path.removeprefix("/slow/")))
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            if b"connection: close" in head.lower():
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def main(port: int) -> None:
    """Say where, and serve."""
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
