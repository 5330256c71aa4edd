"""python -m nvclab.customers --port P --users N --folder D [--think-s 10] [--connections 400]."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path

import click
import uvloop

from nvclab.customers.acknowledgements import Book
from nvclab.customers.behaviour import Behaviour, Customer
from nvclab.customers.crowd import Crowd
from nvclab.customers.figures import Figures, publish
from nvclab.customers.wire import Pool

DEADLINE_S = 10.0
WAITING_MAX = 20_000
_BOOK_S = 0.1
_REPORT_TICKS = 10


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--users", type=click.IntRange(1), required=True)
@click.option("--folder", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--think-s", type=float, default=10.0)
@click.option("--connections", type=int, default=400)
def main(port: int, users: int, folder: Path, think_s: float, connections: int) -> None:
    """Be N users of the bank until SIGTERM."""
    password = Path(os.environ["NVCLAB_PASSWORD_FILE"]).read_text(encoding="ascii").strip()
    roster = json.loads((folder / "roster.json").read_text(encoding="utf-8"))
    customers = [Customer(login=login, account=account) for login, account, _ in roster]
    random.shuffle(customers)
    uvloop.run(_live(Crowd(_behaviour(customers, password, port, connections), users, think_s), folder))


def _behaviour(customers: list[Customer], password: str, port: int, connections: int) -> Behaviour:
    pool = Pool(port, connections_max=connections, waiting_max=WAITING_MAX, deadline_s=DEADLINE_S)
    return Behaviour(customers, password, pool, Figures())


async def _live(crowd: Crowd, folder: Path) -> None:
    """Arrive, keep the book, and report, until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    book = Book(folder / "acknowledgements.jsonl")
    visits = asyncio.create_task(crowd.live())
    ticks = 0
    while not stop.is_set() and not visits.done():
        if ticks % _REPORT_TICKS == 0:
            _report(crowd, folder / "figures.json")
        _keep(crowd, book)
        crowd.behaviour.pool.sweep()
        ticks += 1
        try:
            await asyncio.wait_for(stop.wait(), _BOOK_S)
        except TimeoutError:
            continue
    visits.cancel()
    crowd.behaviour.pool.close()
    await asyncio.sleep(0)  # lets the closed connections tell those who wait, so that the book knows them
    _keep(crowd, book)
    book.close()
    if visits.done() and not visits.cancelled():
        visits.result()  # raises what ended it


def _keep(crowd: Crowd, book: Book) -> None:
    entries, crowd.behaviour.book = crowd.behaviour.book, []
    if entries:
        book.write(entries)


def _report(crowd: Crowd, path: Path) -> None:
    figures = crowd.behaviour.figures
    figures.turn(time.monotonic())
    who = {"pid": os.getpid(), "at_s": time.monotonic(), "users": crowd.active, "users_wanted": crowd.users}
    publish(path, {**who, **figures.as_data()})


if __name__ == "__main__":
    main()
