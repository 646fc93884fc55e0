"""Migrations make the catalogue that the models describe, and refuse what they do not know."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from catalogue.scene import Scene
from servers import postgres_url
from sqlalchemy import create_engine, inspect, text

from popq.catalogue import migrate, overview, queries
from popq.catalogue.db import Catalogue
from popq.catalogue.models import Base
from popq.catalogue.version import migrations_folder, refuse_strangers
from popq.catalogue.views import VIEWS
from popq.errors import Misconfigured, ServiceDown

HEAD = "0012"


@pytest.fixture
def bare(bare_url):
    catalogue = Catalogue(bare_url)
    yield catalogue
    catalogue.close()


def test_migrations_and_models_agree(catalogue):
    with catalogue.read() as tx:
        assert compare_metadata(MigrationContext.configure(tx), Base.metadata) == []


def test_constraints_and_defaults_in_the_database_are_those_of_the_models(catalogue):
    """What Alembic does not compare: CHECKs, keys, server defaults, index conditions."""
    with catalogue.begin() as tx:
        migrated = _shape(tx)
        _drop_everything(tx)
        Base.metadata.create_all(tx)
        assert migrated == _shape(tx)
        tx.rollback()


def _drop_everything(tx):
    for name in VIEWS:
        tx.execute(text(f"DROP VIEW {name}"))
    Base.metadata.drop_all(tx)


def _shape(tx):
    if tx.dialect.name == "postgresql":
        checks = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        queries = (
            f"{checks} WHERE connamespace = 'public'::regnamespace AND conrelid <> 0",
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
            """SELECT table_name || '.' || column_name, concat_ws(' ', column_default, is_nullable)
            FROM information_schema.columns
            JOIN information_schema.tables USING (table_schema, table_name)
            WHERE table_schema = 'public' AND table_type = 'BASE TABLE'""",
        )
        rows = [tuple(row) for query in queries for row in tx.execute(text(query))]
        same = [(name, what.replace("now()", "CURRENT_TIMESTAMP")) for name, what in rows]
        return {row for row in same if not row[0].startswith("alembic_version")}
    shape = set()
    inspector = inspect(tx)
    for name in Base.metadata.tables:
        for check in inspector.get_check_constraints(name):
            shape.add((name, "check", check["name"], " ".join(check["sqltext"].split())))
        for column in inspector.get_columns(name):
            default = (column["default"] or "").strip("()").replace(" ", "")
            shape.add((name, column["name"], column["nullable"], default))
        shape.add((name, "key", *inspector.get_pk_constraint(name)["constrained_columns"]))
        for key in inspector.get_foreign_keys(name):
            shape.add((name, "foreign key", key["name"], str(key["options"])))
    indexes = text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    return shape | {(row[0], " ".join(row[1].split())) for row in tx.execute(indexes)}


def test_upgrade_from_nothing_tells_that_there_was_nothing(bare):
    assert migrate.upgrade(bare) is None
    assert migrate.versions(bare) == (HEAD, HEAD)


def test_asking_for_versions_makes_no_file(tmp_path):
    catalogue = Catalogue(f"sqlite:///{tmp_path / 'none.db'}")
    assert migrate.versions(catalogue) == (None, HEAD)
    catalogue.close()
    assert list(tmp_path.iterdir()) == []


def test_upgrading_twice_changes_nothing(catalogue):
    scene = Scene(catalogue)
    scene.photos(3)
    before = scene.everything()
    assert migrate.upgrade(catalogue) == HEAD
    assert scene.everything() == before


def test_upgrade_makes_the_folders_of_a_file(tmp_path):
    catalogue = Catalogue(f"sqlite:///{tmp_path / 'a' / 'b' / 'popq.db'}")
    migrate.upgrade(catalogue)
    assert migrate.versions(catalogue) == (HEAD, HEAD)
    catalogue.close()


UPGRADE = """
import sys
from popq.catalogue import migrate
from popq.catalogue.db import Catalogue
sys.stdin.readline()  # all at once
print(migrate.upgrade(Catalogue(sys.argv[1])))
"""


def test_ten_processes_may_upgrade_a_new_database_at_once(bare_url):
    command = [sys.executable, "-c", UPGRADE, bare_url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(10)]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    told = sorted(child.communicate(timeout=120)[0].strip() for child in children)
    assert told == [HEAD] * 9 + ["None"]
    assert [child.returncode for child in children] == [0] * 10


def test_an_upgrade_does_not_wait_for_ever_for_another(postgres):
    with postgres.begin() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": 0x706F7071})
        with pytest.raises(ServiceDown, match=r"Others hold what this needs.*try again"):
            migrate.upgrade(postgres, wait_s=0.05)
    assert migrate.upgrade(postgres) == HEAD


@pytest.fixture
def older():
    """A catalogue on PostgreSQL as a version of popq before scores had two indexes left it."""
    with postgres_url() as url, closing(Catalogue(url)) as catalogue:
        upgrade_to(catalogue, "0009")
        yield catalogue


def test_an_upgrade_does_not_wait_for_ever_for_a_table(older):
    with older.begin() as other:
        other.execute(text("LOCK TABLE scores IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(ServiceDown, match=r"Others hold what this needs.*try again"):
            migrate.upgrade(older, wait_s=0.05)
    assert migrate.versions(older)[0] == "0009"
    assert migrate.upgrade(older) == "0009"


#: A trigger that notes what is in force when a migration is written down as done.
NOTE = """
CREATE SCHEMA noted;
CREATE TABLE noted.settings AS SELECT '' AS statement_timeout, '' AS lock_timeout LIMIT 0;
CREATE FUNCTION noted.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO noted.settings
  VALUES (current_setting('statement_timeout'), current_setting('lock_timeout'));
  RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON alembic_version FOR EACH ROW EXECUTE FUNCTION noted.note();
"""


def test_an_upgrade_has_time_limits_of_its_own_and_leaves_the_sessions_alone(older):
    with older.begin() as tx:
        tx.exec_driver_sql(NOTE)
    migrate.upgrade(older, wait_s=7.0)
    noted = Scene(older).rows("SELECT DISTINCT * FROM noted.settings")
    assert noted == [(migrate.STATEMENT_TIMEOUT, "7s")]
    now = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
    assert Scene(older).rows(now) == [("1h", "10min")]


def test_a_newer_catalogue_is_refused_and_left_alone(bare):
    migrate.upgrade(bare)
    scene = Scene(bare)
    scene.do("UPDATE alembic_version SET version_num = '9999'")
    for use in (migrate.upgrade, refuse_strangers):
        with pytest.raises(Misconfigured, match=r"newer popq \(migration 9999\); upgrade popq"):
            use(bare)
    assert scene.scalar("SELECT version_num FROM alembic_version") == "9999"


def upgrade_to(catalogue, revision):
    """Bring a catalogue to an older version, as the popq of that time did."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.set_main_option("path_separator", "os")
    with catalogue.begin(create=True) as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, revision)


def test_a_failed_migration_leaves_nothing_behind(bare):
    upgrade_to(bare, "0001")
    with bare.begin() as tx:
        tx.execute(text("CREATE TABLE workers (mine INTEGER)"))  # in the way of ours
    with pytest.raises(Exception, match="workers"):
        migrate.upgrade(bare)
    assert migrate.versions(bare)[0] == "0001"
    with bare.read() as tx:
        assert not inspect(tx).has_table("metadata")


@pytest.mark.parametrize("revision", ["0001", "0003"])
def test_the_rows_of_an_older_catalogue_are_there_after_an_upgrade(bare, revision):
    upgrade_to(bare, revision)
    with bare.begin() as tx:
        tx.execute(
            text(
                "INSERT INTO photos (flickr_id, page_url, label, state, image_url) VALUES"
                " (7, 'https://www.flickr.com/photos/a/7/', 5.5, 'listed', NULL),"
                " (8, 'https://www.flickr.com/photos/a/8/', 6.5, 'resolved', 'https://x/8.jpg')"
            )
        )
        tx.execute(text("INSERT INTO jobs (stage) VALUES ('resolve')"))
        tx.execute(text("INSERT INTO batches (job_id, lo, hi, photos) VALUES (1, 1, 2, 2)"))
        tx.execute(
            text(
                "INSERT INTO failures (photo_id, job_id, batch_id, outcome, message)"
                " VALUES (1, 1, 1, 'transient', 'HTTP 502')"
            )
        )
    assert migrate.upgrade(bare) == revision
    scene = Scene(bare)
    assert scene.scalar("SELECT sum(label) FROM photos") == 12
    assert scene.scalar("SELECT count(*) FROM batches WHERE job_id = 1 AND hi = 2") == 1
    assert scene.scalar("SELECT message FROM failures") == "HTTP 502"
    with bare.read() as tx:
        assert [row["state"] for row in overview.jobs(tx)] == ["queued"]
        assert queries.photos_by_state(tx)["listed"] == 1


def test_scores_outlive_the_change_of_their_key(bare):
    upgrade_to(bare, "0009")
    scene = Scene(bare)
    photos = scene.photos(3, "stored")
    run = scene.run(done=True)
    row = "INSERT INTO scores (run_id, photo_id, score, tier, probabilities, job_id, code)"
    for photo in photos:
        scene.do(
            f"{row} VALUES (:run, :photo, :photo, 2, '[0.25, 0.75]', 7, 'c')", run=run, photo=photo
        )
    columns = "SELECT run_id, photo_id, score, tier, scored_at, job_id, code FROM scores"
    before = sorted(scene.rows(columns), key=repr)
    migrate.upgrade(bare)
    assert sorted(scene.rows(columns), key=repr) == before
    assert len(scene.rows("SELECT * FROM scored_photos WHERE run_id = :run", run=run)) == 3
    scene.do("DELETE FROM photos WHERE id = :photo", photo=photos[0])
    assert scene.scalar("SELECT count(*) FROM scores") == 2


@pytest.mark.parametrize("alembic", [False, True], ids=["tables", "an Alembic of its own"])
def test_another_programs_database_is_refused_and_left_alone(bare, alembic):
    engine = create_engine(bare.url)
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE notes (text TEXT)"))
        if alembic:
            tx.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
            tx.execute(text("INSERT INTO alembic_version VALUES ('a1b2c3')"))
    engine.dispose()
    before = bare.path.read_bytes() if bare.path else None
    for use in (migrate.upgrade, refuse_strangers):
        with pytest.raises(Misconfigured, match="another program's tables, so it is left alone"):
            use(bare)
    assert before == (bare.path.read_bytes() if bare.path else None)
    assert Scene(bare).scalar("SELECT count(*) FROM notes") == 0


def test_tables_of_an_extension_or_of_another_schema_are_no_other_programs():
    """PostGIS, say, puts a table of its own where new tables go."""
    with postgres_url() as url, closing(Catalogue(url)) as catalogue:
        with catalogue.begin() as tx:
            tx.execute(text("CREATE TABLE spatial_ref_sys (srid INTEGER PRIMARY KEY)"))
            tx.execute(text("CREATE SCHEMA notes"))
            tx.execute(text("CREATE TABLE notes.notes (text TEXT)"))
        with pytest.raises(Misconfigured, match="another program's tables"):
            refuse_strangers(catalogue)
        with catalogue.begin() as tx:
            tx.execute(text("ALTER EXTENSION plpgsql ADD TABLE spatial_ref_sys"))
        refuse_strangers(catalogue)
        migrate.upgrade(catalogue)
        assert migrate.versions(catalogue) == (HEAD, HEAD)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, this is no database. " * 100)
    catalogue = Catalogue(f"sqlite:///{path}")
    for use in (migrate.upgrade, migrate.versions):
        with pytest.raises(Misconfigured, match="is no SQLite database; name another file"):
            use(catalogue)
    catalogue.close()
    assert path.read_text().startswith("Dear diary")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    catalogue = Catalogue(f"sqlite:///{tmp_path / 'file' / 'popq.db'}")
    with pytest.raises(Misconfigured, match="Cannot make the folder"):
        migrate.upgrade(catalogue)
    catalogue.close()


AS_NOBODY = """
import os, sys
from popq.catalogue import migrate
from popq.catalogue.db import Catalogue
from popq.errors import Misconfigured
if os.geteuid() == 0:
    os.setegid(65534); os.seteuid(65534)
catalogue = Catalogue("sqlite:///" + sys.argv[1])
try:
    migrate.upgrade(catalogue)
except Misconfigured as error:
    print(error)
catalogue.close()
"""


def test_a_read_only_folder_is_named(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readonly")
    for parent in folder.parents:  # nobody may look into what pytest made for us alone
        if parent.stat().st_uid == os.getuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    folder.chmod(0o555)
    command = [sys.executable, "-c", AS_NOBODY, str(folder / "popq.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be opened for writing" in done.stdout
    assert str(folder) in done.stdout
