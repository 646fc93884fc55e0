"""A broker that forgets, dies, stays away, and delivers everything twice."""

from __future__ import annotations

import time

from celery import Celery
from chaos.fleet import fleet_over
from chaos.services import Relay, every_message_twice
from redis import Redis
from sqlalchemy.engine import make_url


def test_redis_flushed_killed_and_away_costs_nothing(
    tmp_path, postgres, own_redis, undisturbed, size, report
):
    photos, away_s = size(200, 3000), size(3, 60)
    with fleet_over(tmp_path, photos, database_url=postgres, broker_url=own_redis.url) as fleet:
        fleet.start(2)
        fleet.enqueue("resolve")
        fleet.until(lambda: fleet.count("photos WHERE state <> 'listed'") > photos / 4)
        own_redis.flush()
        fleet.until(lambda: fleet.count("photos WHERE state <> 'listed'") > photos / 2)
        own_redis.kill()
        killed = time.monotonic()
        fleet.finish("resolve")
        fleet.enqueue("download")  # whoever enqueues is told that no bell was rung
        fleet.until(lambda: fleet.count("moments") > photos / 4)
        fleet.until(lambda: time.monotonic() > killed + away_s)
        own_redis.start()
        fleet.finish("download")
        report(fleet, again=fleet.check(undisturbed(photos)))
        # Every worker listens again.
        with own_redis.client() as redis:
            fleet.until(lambda: sum(c["cmd"] == "brpop" for c in redis.client_list()) == 2)


def test_doubled_messages_change_nothing_and_do_not_multiply(
    tmp_path, postgres, broker, undisturbed, size, report
):
    photos, workers, threads = size(200, 4000), 2, 2
    sent = []
    url = make_url(broker)
    relay = Relay(every_message_twice("io", sent), url.port)
    with relay, Redis.from_url(broker) as redis, Celery(broker=broker) as app:
        doubling = url.set(port=relay.port).render_as_string(hide_password=False)
        live = []

        def look():
            """Note how many doorbells wait, in the queue or at a worker, or are being answered."""
            ask = app.control.inspect(timeout=5, limit=workers)
            held = [ask.reserved() or {}, ask.active() or {}]
            if all(len(answers) == workers for answers in held):
                bells = sum(len(bells) for answers in held for bells in answers.values())
                live.append(redis.llen("io") + bells)

        with fleet_over(
            tmp_path, photos, threads=threads, database_url=postgres, broker_url=doubling
        ) as fleet:
            fleet.start(workers)
            fleet.until(lambda: len(app.control.ping(timeout=5, limit=workers)) == workers)
            fleet.work(look)
            report(fleet, again=fleet.check(undisturbed(photos)), bells=len(sent), live=max(live))
    assert sent
    assert 0 < max(live) < 2 * workers * threads
