"""`popq fake-flickr`: a Flickr-compatible server over a folder of photos."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from popq.cli import show
from popq.errors import BadInput, ServiceDown
from popq.flickr.fake.server import DEMO_KEY, DEMO_SECRET, FakeFlickr
from popq.flickr.fake.world import folder_world


@click.command()
@click.option(
    "--photos",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="A folder of <photo id>.jpg files.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default="any free one", help="Port."
)
@click.option(
    "--links",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the photos' pages there.",
)
@show.json_option
def fake_flickr_command(photos: Path, port: int, links: Path | None, as_json: bool) -> None:
    """Serve a folder of photos as Flickr would: API and image host, on 127.0.0.1 only.

    For trying popq, or any Flickr client, without a key and without Flickr. Runs until stopped.
    Point popq at it with the variables that it prints.
    """
    world = folder_world(photos)
    if not world.photos:
        raise BadInput(f"{photos} holds no <photo id>.jpg.")
    if links is not None:
        links.write_text("\n".join(world.page_urls()) + "\n", encoding="utf-8")
    try:
        server = FakeFlickr(world, port=port)
    except OSError as error:
        raise ServiceDown(f"Port {port} cannot be served: {error.strerror}.") from error
    settings = {
        "POPQ_FLICKR_API_URL": server.api_url,
        "POPQ_FLICKR_IMAGE_URL": server.image_url,
        "POPQ_FLICKR_KEYS": f"{DEMO_KEY}:{DEMO_SECRET}",
    }
    if as_json:
        show.data(settings)
    else:
        for name, value in settings.items():
            click.echo(f"export {name}={value}")
    show.note(f"Serving {len(world.photos)} photos; Ctrl-C stops.")
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    with server:
        stop.wait()
