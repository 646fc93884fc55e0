"""`popq fake-flickr` as a process: what it prints, its plan, and one line for what is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
import requests


@pytest.fixture
def folder(tmp_path, picture):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        (photos / f"5200000000{number}.jpg").write_bytes(picture(80, 60 + number))
    return tmp_path


def start(folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POPQ_")}
    command = [sys.executable, "-m", "popq", "fake-flickr", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refused(folder, *arguments, status):
    """Run the command, which must give up; return its one line."""
    with start(folder, *arguments) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, ""), err
    assert "Traceback" not in err
    return err.strip()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_its_plan_until_it_is_stopped(folder, stop):
    (folder / "photos" / "cover.jpg").write_bytes(b"")
    (folder / "plan.toml").write_text(
        '[keys]\nmine = "secret"\n[[photo]]\nrows = [2, 2]\nfate = "removed"\n'
        '[[rule]]\nfault = "502"\ntimes = 1\n'
    )
    with start(folder, "--photos", "photos", "--faults", "plan.toml") as process:
        said = [process.stderr.readline() for _ in range(2)]
        settings = dict(
            process.stdout.readline().removeprefix("export ").strip().split("=", 1)
            for _ in range(4)
        )
        calls = [
            requests.get(
                settings["POPQ_FLICKR_API_URL"],
                params={
                    "method": "flickr.photos.getInfo",
                    "photo_id": f"5200000000{number}",
                    "api_key": "mine",
                    "format": "json",
                    "nojsoncallback": "1",
                },
                timeout=30,
            )
            for number in (0, 0, 1)
        ]
        process.send_signal(stop)
        _, rest = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
    assert said[0].startswith("1 left out, whose names are no photo's id or one twice: cover.jpg")
    assert "Serving 3 photos; counters at http://127.0.0.1:" in said[1]
    assert settings["POPQ_FLICKR_KEYS"].endswith(",mine:secret")
    assert [call.status_code for call in calls] == [502, 200, 200]
    assert [call.json()["stat"] for call in calls[1:]] == ["ok", "fail"]


def test_json(folder):
    with start(folder, "--photos", "photos", "--json") as process:
        text = ""
        while not text.rstrip().endswith("}"):
            text += process.stdout.readline()
        process.terminate()
        process.communicate(timeout=60)
    assert set(json.loads(text)) == {
        "POPQ_FLICKR_API_URL",
        "POPQ_FLICKR_OEMBED_URL",
        "POPQ_FLICKR_IMAGE_URL",
        "POPQ_FLICKR_KEYS",
    }


def test_a_folder_without_photos(folder):
    (folder / "none").mkdir()
    line = refused(folder, "--photos", "none", status=2)
    assert "none holds no photo named like 52000000001.jpg" in line
    assert "\n" not in line
    for number in range(5):
        (folder / "none" / f"cover {number}.jpg").write_bytes(b"")
    line = refused(folder, "--photos", "none", status=2)
    assert "no photo's id: cover 0.jpg, cover 1.jpg, cover 2.jpg, …" in line
    assert "does not exist" in refused(folder, "--photos", "nowhere", status=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "plan.toml cannot be read: No such file or directory"),
        ("[[rule]", "plan.toml is no TOML"),
        ('[[rule]]\nfault = "503"', "plan.toml: rule 1 fault 1: Input should be '500'"),
        ('[[rule]]\nfault = "502"\nphotos = [7]', "names photo 7, which is not served"),
    ],
)
def test_a_plan_that_cannot_be_used(folder, text, words):
    if text is not None:
        (folder / "plan.toml").write_text(text)
    line = refused(folder, "--photos", "photos", "--faults", "plan.toml", status=2)
    assert words in line
    assert "\n" not in line


def test_a_port_that_is_taken(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(folder, "--photos", "photos", "--port", port, status=4)
    assert f"port {port} cannot be served (Address already in use)" in line
    assert "give another --port" in line
    assert "\n" not in line


def test_links_that_cannot_be_written(folder):
    line = refused(folder, "--photos", "photos", "--links", "no/where.txt", status=2)
    assert "no/where.txt cannot be written" in line
