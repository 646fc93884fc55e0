"""`popq sql` and `popq browse`: looking into the catalogue without changing it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from urllib.error import URLError

import pytest
from servers import free_port, postgres_url

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue

QUERY = "SELECT count(*) AS photos FROM photos;\n"
WRITE = "DELETE FROM photos;\n"


def ask(shell, queries, **settings):
    command = [sys.executable, "-m", "popq", "sql"]
    return subprocess.run(
        command,
        cwd=shell.folder,
        env=shell.environment | settings,
        input=queries,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="no sqlite3 here")
def test_sqlite3_opens_the_catalogue_and_may_not_write(outside):
    done = ask(outside, QUERY + WRITE)
    assert done.stdout == "photos\n30\n"
    assert "readonly" in done.stderr


@pytest.mark.skipif(shutil.which("psql") is None, reason="no psql here")
def test_psql_opens_the_catalogue_and_may_not_write(bare):
    with postgres_url() as url:
        catalogue = Catalogue(url)
        migrate.upgrade(catalogue)
        catalogue.close()
        done = ask(bare, QUERY + WRITE, POPQ_DATABASE_URL=url)
    assert "photos" in done.stdout
    assert "(1 row)" in done.stdout
    assert "read-only transaction" in done.stderr


def test_a_prompt_without_its_program_or_its_catalogue_says_so(outside, bare):
    done = ask(outside, QUERY, PATH="")
    assert done.returncode == 3
    assert "sqlite3 is not installed here" in done.stderr
    assert "popq init" in ask(bare, QUERY).stderr


def test_a_browser_gets_the_questions_from_this_machine_alone(outside, reader):
    reader("export", "catalogue", "-o", "copy.db")
    port = free_port()
    with outside.start("browse", reader.folder / "copy.db", "--port", port) as process:
        try:
            told = get(port, "copy/best_of_a_run.json?run=1&_shape=array")
            about = get(port, "copy.json")
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert len(told) == 30
    assert told[0]["score"] == max(row["score"] for row in told)
    assert len(about["queries"]) >= 15
    assert "127.0.0.1" in err


def get(port, path):
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}") as answer:
                return json.load(answer)
        except URLError:
            time.sleep(0.1)
    raise AssertionError("Datasette did not come up")


def test_a_catalogue_that_datasette_cannot_read_is_copied_first(bare):
    _, err = bare("browse", status=2, POPQ_DATABASE_URL="postgresql://localhost:1/none")
    assert "popq export catalogue" in err
