"""HTTP/1.1 on a socket: bytes in, requests to handlers, responses out. Knows nothing of banking."""
