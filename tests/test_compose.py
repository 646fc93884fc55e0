"""docker-compose.yml: its settings are popq's, nothing is open, and its commands do the work.

There is no Docker engine here, so each service's command runs as a process, with the environment
that the file gives it; the names of its hosts become those of real servers of our own.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from houses import house, small_world
from processes import Processes
from redis import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as NotThere
from servers import free_port, postgres_url
from sqlalchemy.engine import URL, make_url

from popq import api
from popq.settings import Settings
from popq.stages.dataset import Spec

ROOT = Path(__file__).parents[1]
SECRETS = {
    "POSTGRES_PASSWORD": "pgpass123",
    "REDIS_PASSWORD": "redispass123",
    "FLOWER_PASSWORD": "flowerpass123",
    "POPQ_FLICKR_KEYS": "key123:secret123",
}


def filled(value, given):
    """Fill in ${NAME:?message} and ${NAME:-default} as docker compose does."""
    if isinstance(value, dict):
        return {name: filled(part, given) for name, part in value.items()}
    if isinstance(value, list):
        return [filled(part, given) for part in value]
    if not isinstance(value, str):
        return value

    def one(match):
        name, kind, rest = match.groups()
        if kind == ":?" and not given.get(name):
            raise KeyError(f"{name}: {rest}")
        return given.get(name) or (rest if kind == ":-" else "")

    return re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", one, value)


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def services(compose):
    return filled(compose["services"], SECRETS)


def of_popq(services):
    return {name: one for name, one in services.items() if one["image"].startswith("popq:")}


def test_its_services_are_those_of_a_whole_installation(services):
    assert set(services) == {"database", "redis", "migrate", "io", "gpu", "flower"}
    assert set(of_popq(services)) == {"migrate", "io", "gpu", "flower"}


def test_each_setting_that_it_gives_is_one_of_popq_and_valid(services):
    known = {f"POPQ_{name.upper()}" for name in Settings.model_fields}
    for name, service in of_popq(services).items():
        given = {key: value for key, value in service["environment"].items() if "POPQ_" in key}
        assert set(given) <= known, name
        Settings(**{key.removeprefix("POPQ_").lower(): value for key, value in given.items()})


def test_its_urls_are_those_of_its_own_servers(services):
    postgres = services["database"]["environment"]
    for service in of_popq(services).values():
        database = make_url(service["environment"]["POPQ_DATABASE_URL"])
        assert database == URL.create(
            "postgresql+psycopg",
            postgres["POSTGRES_USER"],
            postgres["POSTGRES_PASSWORD"],
            "database",
            database=postgres["POSTGRES_DB"],
        )
        broker = make_url(service["environment"]["POPQ_BROKER_URL"])
        assert (broker.drivername, broker.host, broker.port) == ("redis", "redis", 6379)
        assert broker.password == after(services["redis"]["command"], "--requirepass")


def after(command, option):
    """Return the value of a command's option."""
    return command[command.index(option) + 1]


@pytest.mark.parametrize("missing", ["POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD"])
def test_it_does_not_start_without_its_passwords(compose, missing):
    with pytest.raises(KeyError, match=missing):
        filled(compose, SECRETS | {missing: ""})


def test_no_port_is_open_to_the_world(services):
    ports = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert set(ports) == {"flower"}
    assert all(port.startswith("127.0.0.1:") for port in ports["flower"])
    assert not any("network_mode" in one for one in services.values())


def test_each_lasting_service_has_a_health_check_restarts_and_keeps_its_data(compose, services):
    for name, service in services.items():
        if name == "migrate":
            continue
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name
        if name != "flower":
            assert service["volumes"], name
    mounted = {volume.split(":")[0] for one in services.values() for volume in one["volumes"]}
    assert mounted == set(compose["volumes"])
    # From 18 on the image keeps its data below this folder; before, in a volume of its own there.
    assert int(services["database"]["image"].removeprefix("postgres:")) >= 18
    assert services["database"]["volumes"] == ["database:/var/lib/postgresql"]
    assert services["redis"]["volumes"] == ["redis:/data"]
    # What waits in Redis outlives it; and when it is full it says so, instead of forgetting.
    assert after(services["redis"]["command"], "--appendonly") == "yes"
    assert after(services["redis"]["command"], "--maxmemory-policy") == "noeviction"


def test_popq_has_time_to_put_its_work_down_before_it_is_killed(services):
    for name, service in of_popq(services).items():
        seconds = float(service["stop_grace_period"].removesuffix("s"))
        assert seconds > 10, name  # what a worker that is stopped may take
        assert service["init"], name


def test_popq_waits_for_what_it_needs(services):
    for name, service in of_popq(services).items():
        conditions = {key: value["condition"] for key, value in service["depends_on"].items()}
        assert conditions["database"] == "service_healthy"
        if name != "migrate":
            assert conditions["migrate"] == "service_completed_successfully"
            assert conditions["redis"] == "service_healthy"


def test_only_the_gpu_service_has_the_gpu_and_torch(services):
    for name, service in of_popq(services).items():
        assert ("deploy" in service) == (name == "gpu")
        assert service["build"]["target"] == ("gpu" if name == "gpu" else "io")
        assert service["image"] == f"popq:{service['build']['target']}"
    (device,) = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]


def pins(name):
    return set(re.findall(r"^([\w.-]+==\S+)", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("image", ["io", "gpu"])
def test_an_images_lock_is_part_of_the_whole_lock(image):
    mine = pins(f"requirements-{image}.lock")
    assert mine <= pins("requirements.lock")
    names = {pin.partition("==")[0] for pin in mine}
    assert names >= {"celery", "redis", "psycopg", "psycopg-binary"}
    assert ("flower" in names) == (image == "io")
    torch = {pin for pin in mine if pin.startswith(("torch", "nvidia", "triton", "safetensors"))}
    assert bool(torch) == (image == "gpu")
    assert not any(pin.startswith(("pytest==", "ruff==", "mypy==")) for pin in mine)


def test_the_images_run_popq_as_nobody_in_particular():
    text = (ROOT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["python", "-m", "popq"]' in text
    assert "HEALTHCHECK" in text
    stages = text.split("\nFROM ")[1:]
    assert [stage.split("\n")[0].split(" AS ")[1] for stage in stages] == ["base", "io", "gpu"]
    for stage in stages[1:]:
        assert "--require-hashes" in stage
        assert stage.rstrip().endswith("USER popq")
    for copied in re.findall(r"^COPY (\S+) ", text, re.MULTILINE):
        assert (ROOT / copied).exists(), copied


@pytest.fixture
def redis(services, tmp_path):
    """Redis by the very command of the file, but for where it listens and writes."""
    folder, port = tmp_path / "redis", free_port()
    folder.mkdir()
    where = ["--port", str(port), "--dir", str(folder), "--bind", "127.0.0.1"]
    command = [*services["redis"]["command"], *where]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        yield f"redis:6379/0->127.0.0.1:{port}/0"
        server.terminate()


@pytest.fixture
def stack(services, redis, tmp_path):
    """Start services of the file as processes beside a Flickr of our own."""
    # Two PostgreSQL URLs cannot be put together from parts: the file's is replaced as a whole.
    with (
        postgres_url() as database,
        house(tmp_path, small_world(40, owners=10), database_url=database) as home,
        Processes(tmp_path, home.settings() | {"OMP_NUM_THREADS": "1"}) as processes,
    ):
        home.list_files(tmp_path)
        host, _, ours = redis.partition("->")

        def environment(name):
            given = dict(services[name]["environment"])
            given["POPQ_DATABASE_URL"] = database
            given["POPQ_DATA_DIR"] = home.settings()["POPQ_DATA_DIR"]
            given["POPQ_BROKER_URL"] = given["POPQ_BROKER_URL"].replace(host, ours)
            assert ours in given["POPQ_BROKER_URL"]
            given["POPQ_FLICKR_KEYS"] = home.settings()["POPQ_FLICKR_KEYS"]
            return given

        def start(name, *command, **more):
            return processes.start(
                *(command or services[name]["command"]), **environment(name), **more
            )

        start.home, start.processes = home, processes
        start.broker = environment("io")["POPQ_BROKER_URL"]
        yield start


def test_its_services_take_a_list_to_scores(services, stack):
    home, processes = stack.home, stack.processes
    with Redis.from_url(stack.broker.replace("redispass123", "wrong")) as client:
        processes.wait_until(lambda: _refused(client))
    assert stack("migrate").wait(60) == 0
    for name in ("io", "io", "gpu"):
        stack(name)
    port = free_port()
    flower = [str(port) if word == "5555" else word for word in services["flower"]["command"]]
    stack("flower", *flower)

    def rows(query):
        return home.sql(query)[0][0]

    def run(name, *command):
        assert stack(name, *command).wait(90) == 0, processes.tail()

    processes.wait_until(lambda: rows("SELECT count(*) FROM workers") == 3)
    check = services["io"]["healthcheck"]["test"]
    assert check[:4] == ["CMD", "python", "-m", "popq"]
    run("io", *check[4:])
    run("io", "import", "links.txt", "--labels", "labels.txt")
    run("io", "enqueue-resolve")
    stored = "SELECT count(*) FROM photos WHERE state = '{}'"
    processes.wait_until(lambda: rows(stored.format("resolved")) == 40)
    run("io", "enqueue-download")
    processes.wait_until(lambda: rows(stored.format("stored")) == 40)
    api.make_dataset(home.rooms, Spec("main", val=0.3))
    tiny = ("--arch", "resnet18", "--weights", "none", "--image-size", 32, "--epochs", 1)
    run("gpu", "train", "--dataset", "main", *tiny, "--enqueue")
    processes.wait_until(lambda: rows("SELECT count(*) FROM runs WHERE state = 'done'") == 1)
    run("gpu", "enqueue-score")
    processes.wait_until(lambda: rows("SELECT count(*) FROM scores") == 40)
    program = services["flower"]["healthcheck"]["test"][3].replace("5555", str(port))
    healthy = [sys.executable, "-c", program]
    processes.wait_until(lambda: subprocess.run(healthy, check=False).returncode == 0, 30)


def _refused(client):
    try:
        client.ping()
    except AuthenticationError:
        return True
    except NotThere:
        return False
    raise AssertionError("Redis takes any password")
