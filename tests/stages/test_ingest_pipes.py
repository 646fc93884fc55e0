"""Lists that come through pipes, which may take their time."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from popq.stages.ingest import STDIN, Source, check_readable, ingest

BASE = {"image_base": "https://live.staticflickr.com", "image_size": "z"}


def write(path, text):
    path.write_text(text)
    return path


def test_a_pipe_is_read_once_and_whole(catalogue, tmp_path):
    """As `popq import <(…)` gives it: what is read to look at it is lost."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "\n".join(f"https://www.flickr.com/photos/x/{10**9 + n}" for n in range(3000))
    source = Source(pipe)
    check_readable(source)
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    report = ingest(catalogue, source, **BASE)
    writer.join()
    assert (report.new, report.rejected) == (3000, 0)


#: Rows of more bytes than a pipe and its reader's buffer hold together.
MANY = 12_000
LONG_LINKS = [f"https://www.flickr.com/photos/{'x' * 60}/{10**9 + n}" for n in range(MANY)]
LONG_SCORES = [f"{n % 9:0100d}" for n in range(MANY)]


def through_a_pipe(kind, pipe, file):
    """Give a source of which one file is a pipe, and what comes through it."""
    facts = "".join(f'{{"pid": {10**9 + n}, "title": "{"t" * 60}"}}\n' for n in range(MANY))
    links, table = "\n".join(LONG_LINKS), "\n".join(["url", *LONG_LINKS])
    scores = [f"{10**9 + n},{score}" for n, score in enumerate(LONG_SCORES)]
    match kind:
        case "links":
            return Source(pipe), links
        case "standard input":
            return Source(STDIN), links
        case "labels":
            return Source(write(file, links), pipe), "\n".join(LONG_SCORES)
        case "table of labels":
            source = Source(write(file, table), pipe, url_col="url", label_col="score")
            return source, "\n".join(["pid,score", *scores])
        case _:
            return Source(write(file, links), metadata=(pipe,)), facts


@pytest.mark.parametrize(
    "kind", ["links", "standard input", "labels", "table of labels", "metadata"]
)
def test_while_a_pipe_is_read_others_write_to_the_catalogue(catalogue, tmp_path, monkeypatch, kind):
    pipe, told = tmp_path / "pipe", []
    os.mkfifo(pipe)
    source, text = through_a_pipe(kind, pipe, tmp_path / "file")

    def take():
        with pipe.open() if kind == "standard input" else contextlib.nullcontext() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            return ingest(catalogue, source, **BASE, on_progress=lambda *said: told.append(said))

    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(take)
        with pipe.open("w") as end:
            end.write(text[:-1])
            end.flush()  # all but what the pipe holds is read, and the reader waits for more
            with catalogue.begin() as tx:
                tx.exec_driver_sql("DELETE FROM tombstones")
            end.write(text[-1])
        assert taken.result().new == MANY
    shown = "standard input" if kind == "standard input" else pipe
    phases = [phase for phase, _, _ in told]
    assert phases[0] == f"bytes read from {shown}"
    assert (f"bytes read from {shown}", len(text), 0) in told
    assert ("rows read", MANY, 0) in told
