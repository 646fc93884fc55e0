"""Workers that are killed or frozen at any moment, wherever their clocks stand."""

from __future__ import annotations

import datetime as dt
import os
import re
from functools import partial

from chaos.fleet import fleet_over, slow, world

from popq.flickr.fake.faults import Host

#: Shifts the clock of a Python process, as far as Python reads it.
CLOCK_OFF = """
import datetime, os, time

off = float(os.environ["CLOCK_OFF_S"])
real, real_ns, moment = time.time, time.time_ns, datetime.datetime


class Meta(type):
    def __instancecheck__(cls, thing):
        return isinstance(thing, moment)


class Off(moment, metaclass=Meta):
    @classmethod
    def now(cls, tz=None):
        return moment.now(tz) + datetime.timedelta(seconds=off)

    @classmethod
    def utcnow(cls):
        return moment.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=off)


time.time = lambda: real() + off
time.time_ns = lambda: real_ns() + int(off * 1e9)
datetime.datetime = Off
"""


def test_workers_killed_every_second_lose_and_double_nothing(
    tmp_path, postgres, broker, undisturbed, size, report
):
    photos, kills = size(300, 5000), size(6, 60)
    with fleet_over(tmp_path, photos, database_url=postgres, broker_url=broker) as fleet:
        fleet.start(size(3, 4))
        fleet.work(partial(fleet.kill_one, kills), size=size(25, None))
        report(fleet, again=fleet.check(undisturbed(photos)))
        assert fleet.kills >= size(4, 50)


def test_polling_workers_on_sqlite_killed_every_second_lose_and_double_nothing(
    tmp_path, undisturbed, size, report
):
    photos, kills = size(200, 1000), size(4, 20)
    with fleet_over(tmp_path, photos) as fleet:
        fleet.start(2)
        fleet.work(partial(fleet.kill_one, kills), size=size(25, None))
        report(fleet, again=fleet.check(undisturbed(photos)))
        assert fleet.kills >= size(2, 15)


def test_a_worker_frozen_past_its_lease_changes_nothing_when_it_goes_on(
    tmp_path, postgres, undisturbed, size, report
):
    photos = size(120, 1000)
    faults = slow(world(photos), [Host.IMAGE])
    with fleet_over(tmp_path, photos, threads=1, faults=faults, database_url=postgres) as fleet:
        fleet.resolve_here()
        fleet.enqueue("download", size=250)
        fleet.start(2)
        for _ in range(size(1, 5)):
            fleet.freeze_one()
        fleet.finish("download")
        fleet.until(lambda: "lease lost" in fleet.log())  # it did come back with results
        report(fleet, again=fleet.check(undisturbed(photos)))


def test_workers_whose_clocks_are_an_hour_off_do_the_same(
    tmp_path, postgres, broker, undisturbed, size, report
):
    photos = size(60, 500)
    folder = tmp_path / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CLOCK_OFF)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    with fleet_over(tmp_path, photos, database_url=postgres, broker_url=broker) as fleet:
        fleet.start(PYTHONPATH=path, CLOCK_OFF_S="3600")
        fleet.start(PYTHONPATH=path, CLOCK_OFF_S="-3600")
        fleet.work()
        report(fleet, again=fleet.check(undisturbed(photos)))
        now = dt.datetime.now(dt.UTC)
        for worker, hours in zip(fleet.workers, (1, -1), strict=True):
            said = re.findall(r'"timestamp": "([^"]+)"', worker.log.read_text())
            off = dt.datetime.fromisoformat(said[-1]) - now
            assert round(off / dt.timedelta(hours=1)) == hours
