"""People who import more, pause, resume, cancel and purge while workers die."""

from __future__ import annotations

import time

from chaos.fleet import fleet_over, slow, world
from houses import FIRST_ID, quiet
from servers import _administer

from popq import api
from popq.flickr.fake.faults import Host
from popq.stages.drain import SWEEP_S
from popq.stages.ingest import Source

#: What a worker has in its hands; a dead one's is its own until somebody claims it.
HELD = "batches WHERE state = 'leased' AND due > extract(epoch FROM clock_timestamp())"


def newest(fleet, stage):
    return fleet.home.sql(f"SELECT max(id) FROM jobs WHERE stage = '{stage}'")[0][0]


def of_job(fleet, job):
    """Return how many results the job's batches have counted."""
    counted = f"SELECT sum(moved + exited) FROM batches WHERE job_id = {job}"
    return int(fleet.home.sql(counted)[0][0])


def stream(fleet):
    fleet.home.rooms.enqueue("resolve", then="download", by="chaos")


def purge(fleet, photo):
    doomed = api.purge(
        fleet.home.rooms,
        photo=str(photo),
        reason="asked for",
        agreed=lambda doomed: True,
        on_progress=quiet,
    )
    assert len(doomed.photos) == 1


def without(expected, photos):
    """Return the outcome as if these photos had never been there."""
    keys = {row[8] for row in expected["photos"] if row[0] in photos}
    kept = {
        name: [row for row in expected[name] if row[0] not in photos]
        for name in ("photos", "moments")
    }
    return expected | kept | {"files": [key for key in expected["files"] if key not in keys]}


def test_orders_in_the_middle_of_running_jobs(
    tmp_path, postgres, broker, undisturbed, size, report
):
    photos = size(200, 2000)
    faults = slow(world(photos), [Host.IMAGE], seconds=0.1)
    with fleet_over(
        tmp_path, photos, faults=faults, first=photos // 2, database_url=postgres, broker_url=broker
    ) as fleet:
        rooms = fleet.home.rooms
        fleet.start(2)
        stream(fleet)
        fleet.until(lambda: fleet.count("moments") >= 10)
        api.import_list(rooms, Source(tmp_path / "links.txt", tmp_path / "labels.txt"))
        stream(fleet)
        fleet.kill_one()
        # One photo that is stored, one that is not, whoever has it in hand.
        [(stored,)] = fleet.home.sql(
            "SELECT min(flickr_id) FROM photos JOIN moments ON photo_id = id"
        )
        purged = {stored, FIRST_ID + 7 * (photos - 1)}
        for photo in purged:
            purge(fleet, photo)

        api.pause_job(rooms, newest(fleet, "download"))
        fleet.until(lambda: not fleet.count(HELD))
        before = of_job(fleet, newest(fleet, "download"))
        assert before < photos  # there is work that nobody may do
        fleet.until(lambda: fleet.job("resolve") in {"done", "paused"})
        time.sleep(2 * SWEEP_S)  # every worker has looked for work meanwhile
        assert fleet.job("download") == "paused"
        assert of_job(fleet, newest(fleet, "download")) == before
        api.resume_job(rooms, newest(fleet, "download"))
        fleet.until(lambda: fleet.count("moments") >= photos / 5)
        fleet.kill_one()

        api.cancel_job(rooms, newest(fleet, "download"))
        fleet.until(lambda: not fleet.count(HELD))
        assert fleet.count("photos WHERE state = 'resolved'") > 0
        fleet.enqueue("download", size=25)
        fleet.finish("download")

        # Of what was purged some was counted before; each job counts its own tries of a photo.
        expected, calls = undisturbed(photos)
        expected = without(expected, purged)
        del expected["counts"], expected["failures"]
        report(fleet, again=fleet.check((expected, calls)))


def test_ten_workers_started_at_once_on_an_empty_database(
    tmp_path, postgres, undisturbed, size, report
):
    photos = size(60, 500)
    with fleet_over(tmp_path, photos, threads=1, first=0, database_url=postgres) as fleet:
        _administer(postgres, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        fleet.start(10)
        api.import_list(fleet.home.rooms, Source(tmp_path / "links.txt", tmp_path / "labels.txt"))
        fleet.work(size=10)
        report(fleet, again=fleet.check(undisturbed(photos)))
        assert len(fleet.living()) == 10
        assert fleet.count("alembic_version") == 1
