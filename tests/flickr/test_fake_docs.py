"""docs/fake-flickr.md: its commands work as written, and it names all that there is."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from popq.flickr.fake.counters import Counts
from popq.flickr.fake.faults import Fault, Rule
from popq.flickr.fake.plan import Plan
from popq.flickr.fake.world import Fate, Look

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "fake-flickr.md").read_text()
BLOCKS = re.findall(r"^```(sh|python|text)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
END = "=== end of a block ==="


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(listening.getsockname()[1]) for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def test_every_command_works_as_written(tmp_path):
    written = sorted(set(re.findall(r"\b864[0-9]\b", PAGE)))
    ports = dict(zip(written, free_ports(len(written)), strict=True))

    def moved(text):
        return re.sub(r"\b864[0-9]\b", lambda port: ports[port[0]], text)

    script, expected = ["set -e", "trap 'kill $(jobs -p) 2> /dev/null' EXIT"], []
    for kind, text in BLOCKS:
        if kind == "text":
            expected[-1] = moved(text)
        else:
            runs = text if kind == "sh" else f"python - <<'PYTHON'\n{text}PYTHON\n"
            script += [moved(runs), f"echo '{END}'"]
            expected.append("")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POPQ_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with subprocess.Popen(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            out, err = shell.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            raise
    shown = [part.removeprefix("\n") for part in out.split(f"{END}\n")]
    assert shown[:-1] == expected, err
    assert shell.returncode == 0, err


@pytest.mark.parametrize(
    "names",
    [
        list(Fault),
        list(Fate),
        list(Look),
        list(Counts.__annotations__),
        [m.name for m in fields(Rule) if m.name not in {"faults", "since", "calls", "strikes"}],
        *(
            list(part.model_fields)
            for part in (
                Plan,
                *(Plan.model_fields[name].annotation for name in ("world",)),
                Plan.model_fields["photo"].annotation.__args__[0],
                Plan.model_fields["rule"].annotation.__args__[0],
            )
        ),
    ],
    ids=["faults", "fates", "looks", "counters", "rule", "plan", "world", "photo", "plan rule"],
)
def test_the_page_names_all_that_there_is(names):
    shown = set(re.findall(r"[A-Za-z0-9_]+", " ".join(re.findall(r"`[^`\n]+`|\[+[a-z]+\]+", PAGE))))
    assert {name for name in names if not name.startswith("_")} <= shown


def test_every_number_of_the_list_has_its_tests():
    table = PAGE.partition("## The conformance list")[2]
    rows = re.findall(r"^\| (\d+) \|.*\| `(test_\w+\.py)` \|$", table, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 20))
    for number, file in rows:
        text = (HERE / file).read_text()
        assert re.search(rf"^def test_{int(number):02}_\w+\(", text, re.MULTILINE), number
