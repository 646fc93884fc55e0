"""How far a command is: told on a terminal and elsewhere, and by all that lasts."""

from __future__ import annotations

import codecs
import contextlib
import os
import pty
import queue
import re
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from houses import FIRST_ID
from servers import redis_url

from popq.cli.progress import Ticker
from popq.cli.voice import VOICE
from popq.flickr.fake.faults import Fault


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ticker(clock):
    return Ticker("Working", clock)


def said(capsys):
    return capsys.readouterr().err.splitlines()


def test_a_count_has_a_rate_and_the_time_left(ticker, clock, capsys):
    ticker("resolve", 0, 300)
    clock.now += 10
    ticker("resolve", 40, 300)
    clock.now += 1  # too soon for another line
    ticker("resolve", 44, 300)
    clock.now += 64
    ticker("resolve", 300, 300)
    ticker("resolve", 300, 300)
    assert said(capsys) == [
        "resolve: 0 of 300",
        "resolve: 40 of 300, 4.0/s, 1 min 5 s left",
        "resolve: 300 of 300",
    ]


def test_what_an_earlier_command_has_done_is_no_speed_of_this_one(ticker, clock, capsys):
    ticker("download", 1000, 1300)
    clock.now += 10
    ticker("download", 1010, 1300)
    assert said(capsys)[-1] == "download: 1,010 of 1,300, 1.0/s, 4 min 50 s left"


def test_without_an_end_there_is_a_rate_alone(ticker, clock, capsys):
    ticker("rows read", 0, 0)
    clock.now += 10
    ticker("rows read", 5000, 0)
    assert said(capsys) == ["rows read", "rows read: 5,000, 500.0/s"]


def test_what_cannot_be_counted_says_for_how_long_it_lasts(ticker, clock, capsys):
    for step in (1.9, 0.1, 4.9, 0.1):
        clock.now += step
        ticker.beat()
    ticker("merging", 0, 0)
    clock.now += 5
    ticker.beat()
    assert said(capsys) == ["Working: 2 s", "Working: 7 s", "merging", "merging: 5 s"]


def test_what_comes_after_the_last_count_is_told_too(ticker, clock, capsys):
    ticker("rows", 7, 7)
    for _ in range(5):
        clock.now += 1
        ticker.beat()
    ticker("rows", 7, 7)
    assert said(capsys) == ["rows: 7 of 7", "Working: 2 s"]


def test_nothing_is_said_while_a_person_is_asked(ticker, clock, capsys):
    with ticker.hold():
        teller = threading.Thread(target=ticker.beat)
        teller.start()
        clock.now += 100
    teller.join()
    clock.now += 1
    ticker.beat()
    assert said(capsys) == []


class Terminal:
    """A command whose standard error is a terminal of 60 columns."""

    def __init__(self, popq, *arguments, **settings):
        self._outside, inside = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "popq", *map(str, arguments)],
            cwd=popq.folder,
            env=popq.environment | {"TERM": "xterm"} | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=inside,
        )
        os.close(inside)
        self.text = ""
        self._more = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        text = codecs.getincrementaldecoder("utf-8")()  # a read may end within a character
        with contextlib.suppress(OSError):  # how Linux says that nobody is inside any more
            while part := os.read(self._outside, 4096):
                self._more.put(text.decode(part))
        os.close(self._outside)
        self._more.put(None)

    def until(self, wanted):
        """Wait until it has said so; the limit only ends a test that has failed."""
        while wanted not in self.text:
            part = self._more.get(timeout=60)
            assert part is not None, self.text
            self.text += part

    def end(self, status=0):
        """Wait for its end and return all that it has said."""
        while (part := self._more.get(timeout=60)) is not None:
            self.text += part
        assert self.process.wait(60) == status, self.text
        return self.text


@pytest.mark.parametrize("flags", [[], ["--no-color"]])
def test_a_terminal_has_one_line_that_is_written_over(popq, flags):
    popq("import", "links.txt", "--labels", "labels.txt")
    text = Terminal(popq, *flags, "resolve").end()
    assert "\r\x1b[2Kresolve: 40 of 40\r\n" in text  # to move the cursor is no colour


def test_following_a_job_tells_its_rate_and_the_time_left(popq, home):
    for photo in home.flickr.world.photos:
        home.flickr.faults.fail_photo(photo, Fault.SLOW, slow_s=0.2)
    popq("import", "links.txt", "--labels", "labels.txt")
    worker = popq.start("worker", POPQ_SETTLE_EVERY_S="0.3")
    try:
        text = Terminal(popq, "enqueue-resolve", "--follow").end()
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)
    assert re.search(r"job 1 \(resolve\): \d+ of 40, \d+\.\d/s, \d+ s left", text), text
    assert "job 1 (resolve): 40 of 40\r\n" in text


def test_without_a_terminal_lines_are_plain(popq):
    popq("import", "links.txt", "--labels", "labels.txt")
    _, err = popq("resolve")
    assert "resolve: 40 of 40\n" in err
    assert "\x1b" not in err
    assert "\r" not in err
    assert popq("download", "-q")[1] == ""


@contextlib.contextmanager
def locked(home):
    """Keep everybody from writing to the catalogue."""
    connection = sqlite3.connect(home.rooms.catalogue.path, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


LASTING = {
    "Looking for photos that are gone: ": ["recheck"],
    "purge rows: ": ["purge", "--photo", FIRST_ID, "--yes"],
    "Enqueuing: ": ["enqueue-resolve"],
    "Preparing to download: ": ["download"],
    "Making the catalogue: ": ["init"],
}


def test_all_that_lasts_says_what_it_is_at_and_for_how_long(popq, home):
    """Each waits for another who writes, as long as it takes until it says so."""
    popq("import", "links.txt", "--labels", "labels.txt")
    popq("resolve", "--limit", "5")
    for words, command in LASTING.items():
        with locked(home):
            process, told = popq.start(*command), ""
            while not re.search(rf"{words}\d+ s\n", told):
                line = process.stderr.readline()
                assert line, (words, told)
                told += line
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, (words, err)


def test_purge_counts_the_files(popq):
    popq("import", "links.txt", "--labels", "labels.txt")
    popq("resolve")
    popq("download")
    _, err = popq("purge", "--owner", "10000003@N00", "--yes")
    assert "purge files: 4 of 4\n" in err


@pytest.mark.parametrize("broker", [False, True], ids=["no broker", "Redis"])
@pytest.mark.parametrize("how", ["colours", "NO_COLOR", "--no-color"])
def test_a_workers_log_has_colours_unless_they_are_unwanted(popq, broker, how):
    settings = {"NO_COLOR": "1"} if how == "NO_COLOR" else {}
    flags = ["--no-color"] if how == "--no-color" else []
    queues = "io,gpu" if flags and not broker else "io"  # each a process of its own
    popq("import", "links.txt", "--labels", "labels.txt")
    popq("enqueue-resolve")
    with contextlib.ExitStack() as stack:
        if broker:
            settings["POPQ_BROKER_URL"] = stack.enter_context(redis_url())
        worker = Terminal(popq, "worker", "--queues", queues, *flags, **settings)
        worker.until("batch closed")
        worker.process.send_signal(signal.SIGTERM)
        text = worker.end()
    assert ("\x1b[" in text) == (how == "colours"), text


def test_a_quiet_worker_logs_no_batches_and_a_loud_one_all_there_is(popq):
    popq("import", "links.txt", "--labels", "labels.txt")
    logs = {}
    for flag in ("-q", "-vv"):
        popq("enqueue-resolve", "--limit", "20")
        with popq.start("worker", flag) as worker:
            while popq.json("jobs")[0]["state"] != "done":
                assert worker.poll() is None
            worker.send_signal(signal.SIGTERM)
            logs[flag] = worker.communicate(timeout=60)[1]
        assert worker.returncode == 0, logs
    assert logs["-q"] == ""
    assert "batch closed" in logs["-vv"]


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_plain_lines_without_a_terminal_and_none_when_quiet(capsys, monkeypatch, quiet):
    monkeypatch.setattr(VOICE, "quiet", quiet)
    ticker = Ticker("resolve")
    ticker("resolve", 0, 100)
    ticker("resolve", 100, 100)
    err = capsys.readouterr().err
    assert err == ("" if quiet else "resolve: 0 of 100\nresolve: 100 of 100\n")
