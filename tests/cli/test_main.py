from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from popq.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]


def test_every_command_is_in_the_table_with_the_help_that_it_gives_itself():
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.help, name
        shown = command.get_help(click.Context(command, info_name=name))
        assert "Usage" in shown


def test_every_command_that_prints_data_has_json():
    silent = {"worker", "flower", "dataset", "config", "completion", "export", "sql", "browse"}
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        options = {option for param in command.params for option in param.opts}
        assert ("--json" in options) == (name not in silent), name


def test_the_readme_has_a_row_for_each_command_and_for_no_other():
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| `popq ([a-z-]+)", readme, re.MULTILINE)
    assert list(dict.fromkeys(rows)) == list(COMMANDS)


def test_help_and_io_workers_do_not_load_torch():
    modules = ["popq.cli.main", "popq.tasks", "popq.api", "popq.demo"]
    modules += [f"popq.cli.{file}" for file, _ in COMMANDS.values()]
    code = f"import sys, {', '.join(sorted(set(modules)))}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_help_loads_neither_sqlalchemy_nor_numpy():
    code = (
        "import sys; sys.argv = ['popq', '--help']\n"
        "from popq.cli.main import cli\n"
        "cli.main(standalone_mode=False)\n"
        "heavy = {'sqlalchemy', 'numpy', 'celery', 'pydantic', 'requests'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_room_has_a_plaque_and_no_code():
    for room in (
        "catalogue",
        "cli",
        "flickr",
        "images",
        "learn",
        "lists",
        "report",
        "stages",
        "stats",
    ):
        module = importlib.import_module(f"popq.{room}")
        assert module.__doc__
        lines = Path(module.__file__).read_text().strip()
        assert lines == f'"""{module.__doc__}"""', room


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command"),
        (["import"], "Missing argument"),
        (["photo", "many"], "not a valid integer"),
        (["worker", "--queues", "fish"], "queues are io and gpu"),
        (["demo", "--photos", "5"], "too few"),
        (["demo", "--seed", "-1"], "not in the range"),
        (["demo", "--keep", "/proc/nowhere"], "cannot be made"),
        (["jobs", "9" * 20], "not in the range"),
        (["runs", "9" * 20], "not in the range"),
        (["failures", "--limit", "-1"], "not in the range"),
        (["fake-flickr", "--photos", ".", "--port", "99999"], "not in the range"),
        (["fake-flickr", "--photos", ".", "--links", "/"], "is a directory"),
        (["import", "nowhere.txt"], "cannot be read"),
    ],
)
def test_wrong_usage_exits_with_2_and_one_helpful_line(bare, arguments, words):
    _, err = bare(*arguments, status=2)
    assert words in err


def test_a_command_without_a_catalogue_says_how_to_make_one(bare):
    _, err = bare("status", status=3)
    assert "popq init" in err
    assert not (bare.folder / "popq-data").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"POPQ_FLICKR_KEY": "x"}, "did you mean POPQ_FLICKR_KEYS"),
        ({"POPQ_LEASE_S": "soon"}, "POPQ_LEASE_S"),
        ({"POPQ_MAX_TRIES": "0"}, "POPQ_MAX_TRIES"),
        ({"POPQ_DATABASE_URL": "nonsense"}, "POPQ_DATABASE_URL"),
        ({"POPQ_BROKER_URL": "foo://x"}, "POPQ_BROKER_URL"),
        ({"POPQ_DATABASE_URL": "sqlite://"}, "in memory"),
    ],
)
def test_a_wrong_setting_exits_with_3_and_names_it(bare, settings, words):
    _, err = bare("init", status=3, **settings)
    assert words in err


def test_settings_come_from_flags_before_the_environment_before_files(bare):
    (bare.folder / "popq.toml").write_text('max_tries = 7\nimage_size = "c"\n')
    (bare.folder / ".env").write_text("POPQ_MAX_TRIES=8\nPOPQ_LEASE_S=30\n")
    given = ("--set", "io-threads=3", "config", "show")
    rows = bare.json(*given, POPQ_LEASE_S="40", POPQ_IO_THREADS="5")
    shown = {row["name"].removeprefix("POPQ_"): (row["value"], row["source"]) for row in rows}
    assert shown["DEVICE"] == ("auto", "default")
    assert shown["IMAGE_SIZE"] == ("c", "popq.toml")
    assert shown["MAX_TRIES"] == ("8", ".env")
    assert shown["LEASE_S"] == ("40.0", "environment")
    assert shown["IO_THREADS"] == ("3", "flag")


def test_an_unknown_name_in_a_file_is_an_error(bare):
    (bare.folder / "popq.toml").write_text("max_trys = 7\n")
    _, err = bare("init", status=3)
    assert "MAX_TRYS" in err.upper()
    assert "POPQ_MAX_TRIES" in err


def test_doctor_never_shows_a_secret(bare):
    secrets = {
        "POPQ_FLICKR_KEYS": "cafecafecafecafe:hushhush",
        "POPQ_BROKER_URL": "redis://:hushhush@127.0.0.1:1/0",
        "POPQ_FLICKR_API_URL": "http://127.0.0.1:1/",
        "POPQ_FLICKR_IMAGE_URL": "http://127.0.0.1:1",
    }
    out, err = bare("doctor", status=4, **secrets)  # services that do not answer, and no more
    out += bare("config", "show", **secrets)[0]
    assert "hushhush" not in out + err
    assert "cafecafe" not in out + err


def test_a_closed_pipe_is_no_error(popq):
    popq("import", "links.txt", "--labels", "labels.txt")
    process = popq.start("photo", "1")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_without_torch_all_but_training_and_scoring_works(popq):
    popq("import", "links.txt", "--labels", "labels.txt")
    # As where popq was installed without its `train` extra: importing torch fails.
    code = "import sys; sys.modules['torch'] = None; from popq.cli.main import main; main()"
    shown = {}
    for arguments in (
        ["resolve"],
        ["download"],
        ["dataset", "create", "d", "--val", "0.3"],
        ["doctor"],
        ["train", "--dataset", "d"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=popq.folder,
            env=popq.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        shown[arguments[0]] = (done.returncode, done.stdout + done.stderr)
    assert [status for status, _ in shown.values()] == [0, 0, 0, 0, 3]
    assert "pip install 'popq[train]'" in shown["doctor"][1]
    assert "pip install 'popq[train]'" in shown["train"][1]
    assert "Traceback" not in shown["train"][1]
