"""The data centre: its parts, the order in which they start, and the order in which they stop."""

from __future__ import annotations

import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from nvclab import leftovers, platform_file
from nvclab.bank_data import BankData
from nvclab.certificates import Authority
from nvclab.cluster import Cluster
from nvclab.customers.part import Customers
from nvclab.delivery import Delivery
from nvclab.keeper import Keeper, Part
from nvclab.layout import INSTANCES, SPARE, Layout, Record, remove_runtime
from nvclab.pager.part import Pager
from nvclab.pair import Pair
from nvclab.parts.bank import Instance, Program
from nvclab.parts.haproxy import HAProxy
from nvclab.parts.valkey import Valkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvclab.parts.postgres import Postgres

READY_S = 30.0


@dataclass(frozen=True)
class Wishes:
    """What the person who starts a lab may choose: users at a time, seconds between two requests of one, a port.

    synchronous_backup: a payment is acknowledged when the receiver of the transaction log has it, and not before.
    ha: the database is a cluster that Patroni manages.
    delivery: instances run releases in slots, with spare slots beside them; else they run the checkout.
    """

    users: int
    think_s: float = 10.0
    http_port: int | None = None
    synchronous_backup: bool = False
    ha: bool = False
    delivery: bool = False


@dataclass
class DataCentre:
    """Everything that runs. `say` gets a line for each step of the start, `log` what happens later."""

    layout: Layout
    record: Record
    wishes: Wishes
    say: Callable[[str], None]
    log: Callable[[str], None]
    keeper: Keeper = field(init=False)
    authority: Authority = field(init=False)
    databases: Pair | Cluster = field(init=False)
    cache: Valkey = field(init=False)
    delivery: Delivery = field(init=False)
    proxy: HAProxy = field(init=False)
    instances: dict[str, Instance] = field(init=False)
    pager: Pager = field(init=False)
    customers: Customers = field(init=False)
    bank: BankData = field(init=False)

    def __post_init__(self) -> None:
        layout, ports = self.layout, self.record.ports
        self.keeper = Keeper(self.log)
        self.authority = Authority(layout.at("tls"))
        self.databases = (Cluster if self.wishes.ha else Pair)(layout, self.record, self.keeper)
        self.cache = Valkey(ports["cache"], layout.at("data", "cache"), layout.log("cache"))
        self.bank = BankData(layout, self.databases, self.cache.url, self.wishes.users)
        self.delivery = Delivery(layout)
        slots = (*INSTANCES, *(SPARE if self.wishes.delivery else ()))
        self.instances = {name: self._instance(name) for name in slots}
        self.proxy = HAProxy(
            http_port=ports["http"],
            https_port=ports["https"],
            stats_port=ports["proxy_statistics"],
            socket=self.record.proxy_socket,
            certificate=self.authority.server_file,
            configuration=layout.at("data", "haproxy.cfg"),
            log=layout.log("proxy"),
            servers={name: ports[name] for name in slots},
            spare=SPARE,
        )
        self.pager = Pager(ports["pager"], layout.pages, layout.log("pager"))
        self.customers = Customers(
            layout,
            ports["http"],
            self.wishes.users,
            self.wishes.think_s,
            self.bank.customers_environment(),
            layout.log("customers"),
        )
        marker = {leftovers.MARKER: self.record.id}
        for part in self._in_order().values():
            part.process.env = {**part.process.env, **marker}

    @property
    def primary(self) -> Postgres:
        """The database server that is primary."""
        return self.databases.primary

    @property
    def standby(self) -> Postgres:
        """The database server that follows it."""
        return self.databases.standby

    def start(self, heal_remembered: Callable[[], None]) -> None:
        """Start everything in the order in which one needs the other; PartFailed when something does not come up.

        heal_remembered: called when the database answers, to undo what a killed lab's faults left in it.
        """
        self.authority.prepare(dt.datetime.now(dt.UTC))
        for name, part in self._in_order().items():
            self.keeper.add(name, part)
            self.keeper[name].wanted = False  # until it has started for the first time
        self._step("database", self.databases.begin)
        heal_remembered()
        self._step("cache", lambda: self.keeper.start("cache"))
        self._step("schema and customers of the bank", self.bank.prepare)
        platform_file.write(self.layout, self.record, self.bank.required_indexes(), self.bank.house())
        with self._releasing():
            self._step("standby", self.databases.complete)
        self._step("bank instances", lambda: self._start_together(*INSTANCES))
        self._step("proxy", lambda: self.keeper.start("proxy"))
        self._step("pager", lambda: self.keeper.start("pager"))
        if self.wishes.users:
            self._step(f"{self.wishes.users} customers", lambda: self.keeper.start("customers"))
        if self.wishes.synchronous_backup:
            self.databases.wait_for_receiver()

    def stop(self) -> None:
        """Stop everything and remove the sockets; safe in the middle of a start."""
        self.keeper.stop_all()
        remove_runtime(self.record)

    def _instance(self, name: str) -> Instance:
        program = partial(self.delivery.program, name) if self.wishes.delivery else Program
        environment = {**self.bank.service_environment(name), leftovers.MARKER: self.record.id}
        return Instance(name, self.record.ports[name], self.layout.log(name), environment, program=program)

    def _in_order(self) -> dict[str, Part]:
        return {
            **self.databases.parts,
            "cache": self.cache,
            **self.instances,
            "proxy": self.proxy,
            "pager": self.pager,
            "customers": self.customers,
        }

    @contextmanager
    def _releasing(self) -> Iterator[None]:
        """Build the bank's present release beside what is done meanwhile, and put it where nothing is."""
        self.proxy.state_file.unlink(missing_ok=True)  # the ports are others than the last time
        if not self.wishes.delivery:
            yield
            return
        self.delivery.prepare()
        empty = [name for name in INSTANCES if not self.delivery.current(name).is_symlink()]
        with ThreadPoolExecutor(max_workers=1) as beside:
            built = beside.submit(self.delivery.build) if empty else None
            yield
        if built is not None:
            self._step("the bank's release in its slots", lambda: self.delivery.occupy(empty, built.result().digest))

    def _start_together(self, *names: str) -> None:
        for name in names:
            self.keeper[name].part.launch()
        for name in names:
            self.keeper.start(name)

    def _step(self, what: str, act: Callable[[], None]) -> None:
        begin = time.monotonic()
        act()
        self.say(f"{what:<36}{time.monotonic() - begin:6.1f} s")
