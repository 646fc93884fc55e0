"""Whatever is wrong with what a person gives, popq says so in one line with the right status."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import click
import pytest
from disks import locked
from houses import jpeg

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue
from popq.cli.main import COMMANDS, cli, main

BIG = "9" * 20
LIST = "https://www.flickr.com/photos/a/123456789\n"


def said(capfd, monkeypatch, *words):
    """Run a command in this process, as the shell would; return its status and what it said."""
    # Quiet, since on a busy machine some say first how long it has taken.
    monkeypatch.setattr(sys, "argv", ["popq", "-q", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    return ended.value.code or 0, out, err


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """An empty catalogue's file, to be copied: its migrations take longer than a wrong command."""
    path = tmp_path_factory.mktemp("empty") / "popq.db"
    with closing(Catalogue(f"sqlite:///{path}")) as catalogue:
        migrate.upgrade(catalogue)
    return path


@pytest.fixture
def tell(capfd, monkeypatch):
    return lambda *words: said(capfd, monkeypatch, *words)


def one_line(err):
    assert err.startswith("popq: "), err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def leaves():
    """Return the words of every command."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            yield from ([name, part] for part in command.commands)
        else:
            yield [name]


def filled(words):
    """Return a command's words with its required arguments and options, such as they may be."""
    command = cli.get_command(click.Context(cli), words[0])
    for part in words[1:]:
        command = command.commands[part]
    given = list(words)
    for param in command.params:
        if not param.required:
            continue
        kind = param.type
        value = kind.choices[0] if isinstance(kind, click.Choice) else "."
        value = "out.csv" if isinstance(kind, click.Path) and not kind.dir_okay else value
        value = "1" if isinstance(kind, click.types.IntParamType | click.IntRange) else str(value)
        given += [value] if isinstance(param, click.Argument) else [param.opts[-1], value]
    return given


@pytest.mark.parametrize("words", list(leaves()), ids=" ".join)
def test_every_command_refuses_an_option_that_it_does_not_have(tell, words):
    status, _, err = tell(*words, "--nonsense")
    assert status == 2
    assert "--nonsense" in one_line(err)
    assert f"`popq {' '.join(words)} --help` explains" in err


#: What needs no settings, or reads them only when it has something to do.
WITHOUT = {"demo", "fake-flickr", "completion"}


@pytest.mark.parametrize("words", [w for w in leaves() if w[0] not in WITHOUT], ids=" ".join)
@pytest.mark.parametrize("wrong", ["file", "name", "value"])
def test_every_command_refuses_settings_that_it_cannot_use(tell, words, wrong):
    content = {"file": "no = = toml", "name": "max_trys = 1", "value": "max_tries = 0"}[wrong]
    Path("popq.toml").write_text(content)
    given = filled(words)
    if words == ["purge"]:
        given += ["--photo", "1"]
    status, _, err = tell(*given)
    assert status == 3, err
    assert {"file": "popq.toml", "name": "did you mean POPQ_MAX_TRIES", "value": "MAX_TRIES"}[
        wrong
    ] in one_line(err)


#: What opens no catalogue of its own, or (the doctor) tells of it among other things.
APART = ["demo", "doctor", "config show", "flower", "fake-flickr", "completion"]
#: What some commands must be told to come as far as the catalogue.
MORE = {
    "import": ["import", "list.txt"],
    "run": ["run", "--links", "list.txt"],
    "predict": ["predict", "1", "list.txt"],
    "purge": ["purge", "--photo", "1"],
    "worker": ["worker", "--check"],
    "export model": ["export", "model", "out"],
    "export imagefolder": ["export", "imagefolder", "out"],
}
#: Every command that reads the catalogue, and popq alone.
READING = [
    *(
        MORE.get(" ".join(words)) or filled(words)
        for words in leaves()
        if " ".join(words) not in APART
    ),
    *(["jobs"], ["runs"], ["train", "--dataset", "x", "--enqueue"], ["status", "--watch"], []),
]


def left_nothing(*there):
    """No file came to be, but for what belongs to a database that was only looked into."""
    names = {path.name for path in Path().iterdir()} - {"list.txt", *there}
    assert not {name for name in names if not name.endswith(("-wal", "-shm"))}


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_every_command_leaves_another_programs_database_alone(tell, monkeypatch, words):
    with sqlite3.connect("notes.db") as other:
        other.execute("CREATE TABLE notes (text TEXT)")
    other.close()
    before = Path("notes.db").read_bytes()
    Path("list.txt").write_text(LIST)
    monkeypatch.setenv("POPQ_DATABASE_URL", "sqlite:///notes.db")
    status, _, err = tell(*words)
    assert status == 3, err
    assert "another program's tables" in one_line(err)
    assert Path("notes.db").read_bytes() == before
    left_nothing("notes.db")


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_every_command_refuses_a_newer_catalogue(tell, words):
    Path("popq-data").mkdir()
    with sqlite3.connect("popq-data/popq.db") as newer:
        newer.executescript(
            "CREATE TABLE photos (id); CREATE TABLE batches (id);"
            "CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES (9999)"
        )
    newer.close()
    Path("list.txt").write_text(LIST)
    status, _, err = tell(*words)
    assert status == 3, err
    assert "newer popq (migration 9999); upgrade popq" in one_line(err)
    left_nothing("popq-data")


WRONG = [
    (["import", "nowhere.txt"], 2, "nowhere.txt"),
    (["import", "."], 2, "."),
    (["import", "list.txt", "--labels", "nowhere.txt"], 2, "nowhere.txt"),
    (["import", "list.txt", "--images-dir", "nowhere"], 2, "nowhere"),
    (["run", "--links", "nowhere.txt"], 2, "nowhere.txt"),
    (["run", "--links", "list.txt", "--report", "no/where.html"], 2, "no folder"),
    (["photo", "many"], 2, "not a valid integer"),
    (["photo", "5"], 2, "No photo"),
    (["photo", BIG], 2, "No photo"),
    (["runs", "0"], 2, "not in the range"),
    (["runs", "77"], 2, "77"),
    (["jobs", BIG], 2, "not in the range"),
    (["jobs", "77"], 2, "77"),
    (["jobs", "pause", "77"], 2, "77"),
    (["jobs", "retry", "1", "--reason", "bored"], 2, "bored"),
    (["failures", "--limit", "-1"], 2, "not in the range"),
    (["failures", "--outcome", "bored"], 2, "bored"),
    (["failures", "--export", "no/where.csv"], 2, "no/where.csv"),
    (["report", "--run", "77"], 2, "77"),
    (["report", "-o", "no/where.html"], 2, "no/where.html"),
    (["score", "--run", "77"], 2, "77"),
    (["resolve", "--limit", "x"], 2, "not a valid"),
    (["resolve", "--min-label", "high"], 2, "not a valid float"),
    (["resolve", "--min-label", "nan"], 2, "no finite number"),
    (["enqueue-download", "--min-label", "inf", "--dry-run"], 2, "no finite number"),
    (["recheck", "--older-than-hours", "-1"], 2, "not in the range"),
    (["enqueue-resolve", "--owner", "somebody", "--then", "download"], 2, "name in a link"),
    (["dataset", "create", "d", "--seed", str(2**63)], 2, "not in the range"),
    (["recheck", "--older-than-hours", "nan"], 2, "no finite number"),
    (["status", "--watch", "nan"], 2, "no finite number"),
    (["status", "--watch", "1e12"], 2, "not in the range"),
    (["purge"], 2, "--photo ID or --owner NSID"),
    (["purge", "--photo", "5", "--yes"], 2, "5"),
    (["dataset", "show", "nowhere"], 2, "nowhere"),
    (["dataset", "create", "x", "--cuts", "low,high"], 2, "--cuts"),
    (["train", "--dataset", "nowhere", "--weights", "none"], 2, "nowhere"),
    (["worker", "--queues", "fish"], 2, "queues are io and gpu"),
    (["fake-flickr", "--photos", "nowhere"], 2, "nowhere"),
    (["fake-flickr", "--photos", ".", "--faults", "nowhere.toml"], 2, ""),
    (["completion", "tcsh"], 2, "tcsh"),
    (["export", "card", "-o", "card.md", "--dataset", "nowhere"], 2, "nowhere"),
    (["export", "card", "-o", "-"], 2, "data set"),
    (["export", "scores", "-o", "no/where.csv", "--run", "77"], 2, "77"),
    (["export", "manifest", "-o", "x.doc"], 2, "x.doc"),
    (["predict", "77", "nowhere.jpg"], 2, None),
    (["evaluate", "77"], 2, "77"),
    (["runs", "compare", "1", "77"], 2, None),
    (["statu"], 2, "Did you mean 'status'?"),
    (["--set", "max_trys=1", "status"], 3, "did you mean POPQ_MAX_TRIES"),
    (["--set", "database_url=mysql://x/y", "status"], 3, "POPQ_DATABASE_URL"),
    (["--set", "broker_url=ftp://x", "status"], 3, "POPQ_BROKER_URL"),
    (["--set", "store_url=nonsense://x", "doctor", "--store"], 3, None),
    (["--set", "lease_s=inf", "status"], 3, "POPQ_LEASE_S (flag): Input should be a finite"),
    (["browse", "list.txt"], 2, "no SQLite database"),
    (["flower"], 3, "POPQ_BROKER_URL"),
]


@pytest.mark.parametrize(("words", "status", "told"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_what_is_wrong_is_named_in_one_line(tell, empty, monkeypatch, words, status, told):
    for name in ("MAX_TRIES", "DATABASE_URL", "BROKER_URL", "STORE_URL", "LEASE_S"):
        monkeypatch.setenv(f"POPQ_{name}", "")  # so that what --set puts there is taken out again
        monkeypatch.delenv(f"POPQ_{name}")
    monkeypatch.setenv("POPQ_FLICKR_IMAGE_URL", "http://127.0.0.1:1")
    Path("list.txt").write_text(LIST)
    Path("popq-data").mkdir()
    shutil.copy(empty, "popq-data")
    found, out, err = tell(*words)
    assert found == status, out + err
    if told is not None:
        assert told in one_line(err)


def test_a_mistake_of_popqs_own_is_one_line_and_a_traceback_only_with_debug(popq):
    code = (
        "import sys; from popq.cli import main\n"
        "main.COMMANDS['status'] = ('nowhere', '')\n"
        "main.main()"
    )
    for flags, traced in (((), False), (("--debug",), True)):
        done = subprocess.run(
            [sys.executable, "-c", code, *flags, "status"],
            cwd=popq.folder,
            env=popq.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "mistake of popq's own" in done.stderr
        assert ("Traceback" in done.stderr) == traced


@pytest.mark.parametrize(
    "words", [["--help"], ["config", "show"], ["status"], ["failures", "--export", "-"], []]
)
def test_a_reader_that_has_seen_enough_is_no_error(popq, words):
    process = popq.start(*words)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0, err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [
        ["export", "scores", "-o", "-"],
        ["export", "scores", "-o", "-", "--format", "smp"],
        ["export", "manifest", "-o", "-"],
        ["export", "card", "-o", "-"],
        ["predict", "1", "a.jpg", "--csv"],
    ],
    ids=" ".join,
)
def test_a_reader_of_results_that_has_seen_enough_is_no_error(outside, words):
    (outside.folder / "a.jpg").write_bytes(jpeg(0))
    with outside.start(*words) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "popq: " not in err


WRITING = [
    ["export", "scores", "-o", "locked/new.csv"],
    ["export", "scores", "-o", "locked/new.parquet"],
    ["export", "manifest", "-o", "locked/new.jsonl"],
    ["export", "card", "-o", "locked/new.md"],
    ["export", "catalogue", "-o", "locked/new.db"],
    ["export", "model", "locked/new"],
    ["export", "imagefolder", "locked/new"],
    ["failures", "--export", "locked/new.csv"],
    ["report", "-o", "locked/new.html"],
]


@pytest.mark.parametrize("words", WRITING, ids=" ".join)
def test_a_folder_that_takes_no_file_is_named(reader, words):
    folder = reader.folder / "locked"
    folder.mkdir()
    with locked(folder):
        _, err = reader("-q", *words, status=2)
        assert "locked/new" in one_line(err)
        assert "cannot be written" in err
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["init"], ["import", "list.txt"], ["resolve"], ["dataset", "create", "x"]]
)
@pytest.mark.parametrize("made", [False, True], ids=["no catalogue", "a catalogue"])
def test_a_catalogue_that_cannot_be_written_is_named(tell, empty, words, made):
    Path("list.txt").write_text(LIST)
    Path("popq-data").mkdir()
    if made:
        shutil.copy(empty, "popq-data")
    with locked(Path("popq-data").resolve()):
        status, _, err = tell(*words)
    assert status == 3, err
    assert "popq-data" in one_line(err)


AS_NOBODY = """
import os, sys
# All of Python before the rights are gone: it may lie where nobody else can read it.
import popq.cli.lists, popq.cli.main, popq.cli.start, popq.cli.status, pydantic.main, dotenv.main
from popq.catalogue.db import Catalogue
Catalogue("sqlite:///x").close()
import linecache, tomllib
if os.geteuid() == 0:
    os.setegid(65534); os.seteuid(65534)
popq.cli.main.main()
"""


@pytest.mark.parametrize(
    ("hidden", "words", "status"),
    [
        ("popq.toml", ["status"], 3),
        (".env", ["status"], 3),
        ("list.txt", ["import", "list.txt"], 2),
    ],
)
def test_a_file_that_may_not_be_read_is_named(tmp_path_factory, hidden, words, status):
    folder = tmp_path_factory.mktemp("forbidden")
    for parent in (folder, folder.parent, folder.parent.parent):
        if parent.stat().st_uid == os.getuid():
            parent.chmod(0o755)
    folder.chmod(0o777)
    (folder / hidden).write_text("x")
    (folder / hidden).chmod(0)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POPQ_")}
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *words],
        cwd=folder,
        # Not measured: nobody may not write where coverage keeps its data.
        env=environment | {"HOME": str(folder), "COVERAGE_PROCESS_CONFIG": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert hidden in one_line(done.stderr)
