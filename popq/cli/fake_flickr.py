"""`popq fake-flickr`: a Flickr-compatible server over a folder of photos."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from popq import stopping
from popq.cli import show
from popq.errors import BadInput, ServiceDown
from popq.flickr.fake.plan import read_file
from popq.flickr.fake.server import FakeFlickr
from popq.flickr.fake.world import World, folder_files, folder_world


@click.command()
@click.option(
    "--photos",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="A folder of <photo id>.jpg (.png, .gif) files.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default="any free one", help="Port."
)
@click.option(
    "--links",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the photos' pages there.",
)
@click.option(
    "--faults",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What goes wrong, and when: a TOML file.",
)
@show.json_option
def fake_flickr_command(
    photos: Path, port: int, links: Path | None, faults: Path | None, as_json: bool
) -> None:
    """Serve a folder of photos as Flickr would: API, image host and oEmbed, on 127.0.0.1 only.

    For trying popq, or any Flickr client, without a key and without Flickr. Runs until stopped.
    Point popq at it with the variables that it prints. Counters, and faults to switch on and off,
    are below /_popq/. docs/fake-flickr.md tells more.
    """
    server = _server(photos, port, faults)
    world = server.world
    if links is not None:
        _write_links(links, world)
    settings = {
        "POPQ_FLICKR_API_URL": server.api_url,
        "POPQ_FLICKR_OEMBED_URL": server.oembed_url,
        "POPQ_FLICKR_IMAGE_URL": server.image_url,
        "POPQ_FLICKR_KEYS": ",".join(f"{key}:{secret}" for key, secret in server.keys.items()),
    }
    if as_json:
        show.data(settings)
    else:
        for name, value in settings.items():
            click.echo(f"export {name}={value}")
    show.note(f"Serving {len(world.photos)} photos; counters at {server.desk_url}; Ctrl-C stops.")
    stop = threading.Event()
    stopping.on_signals(stop.set)
    with server:
        stopping.wait(stop)


def _server(photos: Path, port: int, faults: Path | None) -> FakeFlickr:
    files, strangers = folder_files(photos)
    named = ", ".join(path.name for path in strangers[:3]) + (", …" if strangers[3:] else "")
    if not files:
        found = f"; no photo's id: {named}" if strangers else ""
        raise BadInput(f"{photos} holds no photo named like 52000000001.jpg{found}")
    if strangers:
        show.note(f"{len(strangers)} left out, whose names are no photo's id or one twice: {named}")
    plan = None if faults is None else read_file(faults)
    try:
        server = FakeFlickr(folder_world(photos), port=port)
    except OSError as error:
        hint = "give another --port, or none for any free one"
        raise ServiceDown(f"port {port} cannot be served ({error.strerror}); {hint}") from error
    if plan is not None:
        try:
            server.apply(plan)
        except BadInput:
            server.stop()
            raise
    return server


def _write_links(links: Path, world: World) -> None:
    try:
        links.write_text("\n".join(world.page_urls()) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{links} cannot be written: {error.strerror}") from error
