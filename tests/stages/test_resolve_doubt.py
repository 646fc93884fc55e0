"""An oEmbed service that refuses everybody is not taken at its word: it may be a proxy's."""

from __future__ import annotations

import pytest
from houses import FIRST_ID, house, quiet, small_world

from popq import api
from popq.errors import Misconfigured
from popq.flickr.fake.faults import Fault, Faults, Host, Rule
from popq.flickr.fake.world import Fate
from popq.flickr.oembed import HOST

MANY = 30  # more than a batch


def take_in(home, tmp_path):
    api.import_list(home.rooms, home.list_files(tmp_path))


def resolve(home, **more):
    return api.work(home.rooms, "resolve", via="oembed", on_progress=quiet, **more)


def states(home):
    query = "SELECT state, reason, count(*) FROM photos GROUP BY state, reason ORDER BY state"
    return home.sql(query)


def steps(home):
    """Work the resolve job until there is nothing to claim for now."""
    job = home.rooms.enqueue("resolve", via="oembed", by="test").job
    drain = home.rooms.drain("resolve")
    while drain.step(job):
        pass


@pytest.mark.parametrize("status", [401, 403, 404, 410])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_service_that_refuses_every_photo_marks_none(tmp_path, status, threads):
    world = small_world(MANY, fates=[Fate.PRIVATE] * MANY)
    world.oembed_private_status = status
    with house(tmp_path, world, flickr_keys=None, io_threads=threads) as home:
        take_in(home, tmp_path)
        with pytest.raises(Misconfigured, match="none of them is marked") as stopped:
            resolve(home)
        assert f"HTTP {status}" in str(stopped.value)
        assert states(home) == [("listed", None, MANY)]
        assert home.sql("SELECT state FROM jobs") == [("paused",)]
        for photo in world.photos.values():
            photo.fate = Fate.LIVE
        assert resolve(home).moved == MANY


def test_a_job_that_is_resumed_goes_on_in_the_same_process(tmp_path):
    """As a worker does that runs on while a person sets the proxy right."""
    few = 12  # one batch, outside of which nobody bears witness
    world = small_world(few, fates=[Fate.REMOVED] * few)
    with house(tmp_path, world, flickr_keys=None, io_threads=1) as home:
        take_in(home, tmp_path)
        job = home.rooms.enqueue("resolve", via="oembed", by="test").job
        drain = home.rooms.drain("resolve")
        with pytest.raises(Misconfigured, match="POPQ_FLICKR_OEMBED_URL"):
            drain.step(job)
        for photo in list(world.photos.values())[1:]:
            photo.fate = Fate.LIVE
        api.resume_job(home.rooms, job)
        while drain.step(job):
            pass
        assert states(home) == [("gone", "not_found", 1), ("resolved", None, few - 1)]


def test_a_wrong_url_marks_none(tmp_path):
    with house(tmp_path, small_world(MANY)) as home:
        take_in(home, tmp_path)
        wrong = f"{home.flickr.image_url}/nowhere/"
        with (
            house(tmp_path, home.flickr.world, flickr_oembed_url=wrong) as wrongly,
            pytest.raises(Misconfigured, match=f"{wrong}.*POPQ_FLICKR_OEMBED_URL"),
        ):
            resolve(wrongly)
        assert states(home) == [("listed", None, MANY)]


@pytest.mark.parametrize("shown_in_row", [1, MANY + 1])
def test_photos_are_gone_however_many_while_another_is_shown(tmp_path, shown_in_row):
    """Be it the first, which was shown before, or the last, which has yet to be asked for."""
    fates = [Fate.REMOVED] * (MANY + 1)
    fates[shown_in_row - 1] = Fate.LIVE
    world = small_world(MANY + 1, fates=fates)
    with house(tmp_path, world, flickr_keys=None, io_threads=1) as home:
        take_in(home, tmp_path)
        done = resolve(home)
        assert (done.moved, done.exited, done.left) == (1, MANY, 0)
        assert states(home) == [("gone", "not_found", MANY), ("resolved", None, 1)]


def test_a_short_list_of_photos_that_are_all_gone_ends(tmp_path):
    few = 9
    with house(tmp_path, small_world(few, fates=[Fate.REMOVED] * few), flickr_keys=None) as home:
        take_in(home, tmp_path)
        assert resolve(home).exited == few
        assert states(home) == [("gone", "not_found", few)]


def test_what_refuses_what_it_showed_is_not_believed_even_of_few(tmp_path):
    faults = Faults()
    faults.add(Rule(faults=(Fault.FORBIDDEN,), host=Host.WWW, from_call=6))
    with house(tmp_path, small_world(7), faults, flickr_keys=None, io_threads=1) as home:
        take_in(home, tmp_path)
        with pytest.raises(Misconfigured, match="what it showed before too"):
            resolve(home)
        assert states(home) == [("listed", None, 2), ("resolved", None, 5)]
        home.flickr.faults.clear()
        assert resolve(home).moved == 7


def test_one_that_fails_when_it_must_prove_itself_rests(tmp_path):
    ids = [FIRST_ID + 7 * number for number in range(7)]
    faults = Faults()
    shown, refused = frozenset(ids[:5]), frozenset(ids[5:])
    faults.add(Rule(faults=(Fault.FORBIDDEN,), host=Host.WWW, photos=refused))
    faults.add(Rule(faults=(Fault.ERROR_502,), host=Host.WWW, photos=shown, from_call=6))
    settings = {"flickr_keys": None, "io_threads": 1, "throttle_pause_s": 60}
    with house(tmp_path, small_world(7), faults, **settings) as home:
        take_in(home, tmp_path)
        steps(home)
        assert states(home) == [("listed", None, 2), ("resolved", None, 5)]
        ((why,),) = home.sql(f"SELECT paused_why FROM hosts WHERE name = '{HOST}'")
        assert "in doubt" in why
        assert home.sql("SELECT count(*) FROM failures") == [(0,)]


def test_dead_photos_end_also_at_a_rate_of_one_call_at_a_time(tmp_path):
    world = small_world(5, fates=[Fate.LIVE] + [Fate.REMOVED] * 4)
    settings = {"flickr_keys": None, "flickr_calls_per_hour": 360, "io_threads": 1}
    with house(tmp_path, world, **settings) as home:
        take_in(home, tmp_path)
        for _ in range(10):
            home.let_pass()
            with home.rooms.catalogue.begin() as tx:
                tx.exec_driver_sql("UPDATE hosts SET tat = 0")
            steps(home)
        assert states(home) == [("gone", "not_found", 4), ("resolved", None, 1)]
