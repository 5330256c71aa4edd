"""A ticket shop: somebody else's small web service over PostgreSQL. It knows nothing of this project; tests start it as
a program of its own: `ticket_shop.py PORT CONNINFO LOG`.
"""

from __future__ import annotations

import collections
import datetime as dt
import hashlib
import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg

PORT, CONNINFO, LOG = int(sys.argv[1]), sys.argv[2], sys.argv[3]
EDGES = (0.01, 0.05, 0.1, 0.5, 1.0)
SCHEMA = """
CREATE TABLE IF NOT EXISTS shows (id int PRIMARY KEY, title text NOT NULL, seats int NOT NULL CHECK (seats >= 0));
CREATE TABLE IF NOT EXISTS orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, show int NOT NULL REFERENCES shows, buyer text NOT NULL,
    made timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS orders_by_buyer ON orders (buyer);
INSERT INTO shows SELECT n, 'Show ' || n, 100000 FROM generate_series(1, 5) n ON CONFLICT DO NOTHING;
"""
ORDER = """
WITH seat AS (UPDATE shows SET seats = seats - 1 WHERE id = %s AND seats > 0 RETURNING id)
INSERT INTO orders (show, buyer) SELECT id, %s FROM seat RETURNING id"""

lock = threading.Lock()
requests = collections.Counter()
orders = collections.Counter({"sold": 0, "sold_out": 0, "refused": 0})
durations = []
log = open(LOG, "a", buffering=1)  # noqa: SIM115, PTH123 - for as long as the shop is open
began = time.time()


def note(event: str, **fields: object) -> None:
    log.write(json.dumps({"time": dt.datetime.now(dt.UTC).isoformat(), "event": event, **fields}) + "\n")


def database() -> psycopg.Connection:
    return psycopg.connect(CONNINFO, connect_timeout=2, autocommit=True)


class Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.timed(self.get)

    def do_POST(self) -> None:
        self.timed(self.post)

    def timed(self, act: object) -> None:
        start = time.perf_counter()
        try:
            code, body, kind = act()
        except Exception as error:  # noqa: BLE001 - as such shops do
            code, body, kind = 500, {"error": type(error).__name__}, "application/json"
            note("shop.error", error=type(error).__name__)
        with lock:
            requests[str(code), self.command] += 1
            durations.append(time.perf_counter() - start)
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def get(self) -> tuple[int, object, str]:
        if self.path == "/health":
            try:
                with database() as session:
                    session.execute("SELECT 1")
            except psycopg.OperationalError:
                return 503, {"status": "no database"}, "application/json"
            return 200, {"status": "fine"}, "application/json"
        if self.path == "/version":
            return 200, {"version": "7.2", "now": dt.datetime.now(dt.UTC).isoformat()}, "application/json"
        if self.path == "/metrics":
            return 200, metrics(), "text/plain; version=0.0.4"
        if self.path == "/broken":
            raise RuntimeError
        return 404, {"error": "no such page"}, "application/json"

    def post(self) -> tuple[int, object, str]:
        buyer = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/login":
            note("shop.login.wrong_password", customer=hashlib.sha256(buyer.encode()).hexdigest()[:16])
            return 401, {"error": "wrong password"}, "application/json"
        with database() as session:
            sold = session.execute(ORDER, (1, buyer)).fetchone()
        with lock:
            orders["sold" if sold else "sold_out"] += 1
        note("shop.order", result="sold" if sold else "sold_out")
        return 201, {"order": sold and sold[0]}, "application/json"

    def log_message(self, *_: object) -> None:
        pass


def metrics() -> str:
    with lock:
        lines = ["# HELP shop_requests_total Requests by status.", "# TYPE shop_requests_total counter"]
        lines += [f'shop_requests_total{{code="{code}",method="{m}"}} {n}' for (code, m), n in requests.items()]
        lines += ["# TYPE shop_request_duration_seconds histogram"]
        for edge in EDGES:
            lines.append(f'shop_request_duration_seconds_bucket{{le="{edge}"}} {sum(d <= edge for d in durations)}')
        lines += [
            f'shop_request_duration_seconds_bucket{{le="+Inf"}} {len(durations)}',
            f"shop_request_duration_seconds_sum {sum(durations)}",
            f"shop_request_duration_seconds_count {len(durations)}",
            "# TYPE shop_orders_total counter",
            *(f'shop_orders_total{{result="{result}"}} {n}' for result, n in orders.items()),
            "# TYPE shop_mails_total counter",
            'shop_mails_total{state="sent"} 4',
            "# TYPE shop_seats gauge",
            "shop_seats 100000",
            "# TYPE process_start_time_seconds gauge",
            f"process_start_time_seconds {began}",
        ]
    return "\n".join(lines) + "\n"


with database() as made:
    made.execute(SCHEMA)
server = ThreadingHTTPServer(("127.0.0.1", PORT), Shop)
server.daemon_threads = True
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
note("shop.opened", port=PORT)
server.serve_forever()
