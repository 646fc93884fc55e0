"""A database that is restarted, drops its connections, or is locked by another program."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from chaos.fleet import fleet_over
from servers import _administer

DROP_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def test_postgres_restarted_in_the_middle_costs_nothing(
    tmp_path, own_postgres, broker, undisturbed, size, report
):
    server, url = own_postgres
    photos, away_s = size(200, 2000), size(2, 30)
    with fleet_over(tmp_path, photos, database_url=url, broker_url=broker) as fleet:
        fleet.start(2)

        def restart(*, crash):
            fleet.lose_all()
            server.stop(crash=crash)
            time.sleep(away_s)
            server.start()

        for stage, done in (("resolve", "photos WHERE state <> 'listed'"), ("download", "moments")):
            fleet.enqueue(stage, size=25)
            fleet.until(lambda done=done: fleet.count(done) > photos / 4)
            restart(crash=False)
            fleet.until(lambda done=done: fleet.count(done) > photos / 2)
            restart(crash=True)
            fleet.finish(stage)
        report(fleet, again=fleet.check(undisturbed(photos)))


def test_connections_dropped_again_and_again_cost_nothing(
    tmp_path, postgres, broker, undisturbed, size, report
):
    photos, drops = size(200, 2000), []
    with fleet_over(tmp_path, photos, database_url=postgres, broker_url=broker) as fleet:

        def drop():
            fleet.lose_all()
            _administer(postgres, DROP_ALL)
            drops.append(1)

        fleet.start(2)
        # A worker that finds no database as it starts says so and ends.
        fleet.until(lambda: fleet.count("workers") == 2)
        fleet.work(drop, size=size(25, None), every_s=(0.3, 0.8))
        report(fleet, again=fleet.check(undisturbed(photos)), drops=len(drops))
        assert len(drops) >= size(3, 30)


def test_a_sqlite_file_locked_by_another_program_for_a_while_costs_nothing(
    tmp_path, undisturbed, size, report
):
    # Beyond 30 seconds workers stop waiting and try again.
    photos, locked_s = size(120, 600), size([4], [4, 40])
    with fleet_over(tmp_path, photos) as fleet:
        fleet.start(2)
        for seconds in locked_s:
            fleet.enqueue("resolve", size=25)
            fleet.until(lambda: fleet.count("photos WHERE state <> 'listed'") > photos / 4)
            with closing(sqlite3.connect(fleet.home.rooms.catalogue.path)) as other:
                other.execute("BEGIN EXCLUSIVE")
                fleet.lose_all()
                time.sleep(seconds)
                other.rollback()
        fleet.finish("resolve")
        fleet.enqueue("download", size=25)
        fleet.finish("download")
        report(fleet, again=fleet.check(undisturbed(photos)))
