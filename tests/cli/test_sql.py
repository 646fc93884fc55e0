"""`popq sql` and `popq browse`: looking into the catalogue without changing it."""

from __future__ import annotations

import html
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from urllib.error import URLError

import pytest
from servers import free_port, postgres_url

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue
from popq.catalogue.prompt import prompt

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
        with catalogue.begin() as tx:
            elsewhere = f"ALTER DATABASE {catalogue.url.database} SET timezone = 'Asia/Tokyo'"
            tx.exec_driver_sql(elsewhere)
        catalogue.close()
        done = ask(bare, QUERY + "SHOW timezone;\n" + WRITE, POPQ_DATABASE_URL=url)
        _, err = bare("browse", status=2, POPQ_DATABASE_URL=url)
        assert "popq export catalogue" in err  # Datasette reads SQLite alone
        copied = bare("export", "catalogue", "-o", "copy.db", POPQ_DATABASE_URL=url)[0]
        assert copied == "0 rows are in copy.db.\n"
    assert "photos" in done.stdout
    assert "(1 row)" in done.stdout
    assert "UTC" in done.stdout  # years and months are SQLite's and the report's
    assert "read-only transaction" in done.stderr


def test_no_password_stands_among_the_prompts_arguments():
    url = "postgresql+psycopg://me:s3cret@db/popq?sslpassword=k3y&sslmode=require"
    command, environment = prompt(Catalogue(url))
    assert environment == {"PGPASSWORD": "s3cret"}
    assert "sslmode=require" in command[-1]
    assert not {"s3cret", "k3y"} & set(re.split("[ =]", command[-1]))


def test_a_prompt_without_its_program_or_its_catalogue_says_so(outside, bare):
    done = ask(outside, QUERY, PATH="")
    assert done.returncode == 3
    assert "sqlite3 is not installed here" in done.stderr
    assert "popq init" in ask(bare, QUERY).stderr


def test_a_browser_gets_the_questions_from_this_machine_alone(outside, reader):
    reader("export", "catalogue", "-o", "copy.db")
    with browsing(outside, reader.folder / "copy.db") as (port, said):
        told = get(port, "copy/best_of_a_run.json?run=1&_shape=array")
        about = get(port, "copy.json")
    (err,) = said
    assert len(told) == 30
    assert told[0]["score"] == max(row["score"] for row in told)
    assert len(about["queries"]) >= 15
    assert "127.0.0.1" in err


def test_a_browser_gets_the_catalogue_itself_with_what_its_tables_are(outside):
    with browsing(outside) as (port, said):
        told = get(port, "popq/best_of_a_run.json?run=1&_shape=array")
        about = get(port, "-/metadata.json")
        (served,) = get(port, "-/databases.json")
        page = text(port, "")
        table = text(port, "popq/scored_photos")
    (err,) = said
    assert len(told) == 30
    assert (served["name"], served["is_mutable"]) == ("popq", True)
    assert f"<h1>{about['title']}" in page.replace("\n", "").replace("> ", ">")
    assert about["title"] == "A catalogue of popq"
    assert about["description"] in html.unescape(page)
    tables = about["databases"]["popq"]["tables"]
    assert {"photos", "scores", "photo_status", "scored_photos"} <= set(tables)
    assert all(one["description"] for one in tables.values())
    assert tables["scored_photos"]["description"] in html.unescape(table)
    assert "popq-data/popq.db at http://127.0.0.1" in err


def test_the_link_leads_to_a_copy_of_any_name(outside, reader):
    reader("export", "catalogue", "-o", "my copy.v2.db")
    with browsing(outside, reader.folder / "my copy.v2.db") as (port, said):
        home = text(port, "")
    (err,) = said
    (link,) = re.findall(rf" at http://127.0.0.1:{port}(/.+); ", err)
    assert f'href="{link}"' in home


def test_a_port_that_is_taken_is_named_with_what_to_do(bare):
    bare("init")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        _, err = bare("browse", "--port", port, status=4)
    assert err.startswith(f"popq: port {port} cannot be served")
    assert "give another --port" in err
    assert err.count("\n") == 1


@contextmanager
def browsing(shell, *words):
    """Give the port of `popq browse`, and a list that has what it said once it has ended."""
    port, said = free_port(), []
    with shell.start("browse", *words, "--port", port) as process:
        try:
            yield port, said
        finally:
            process.send_signal(signal.SIGINT)
            said.append(process.communicate(timeout=30)[1])


def get(port, path):
    return json.loads(text(port, path))


def text(port, path):
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}") as answer:
                return answer.read().decode()
        except URLError:
            time.sleep(0.1)
    raise AssertionError("Datasette did not come up")
