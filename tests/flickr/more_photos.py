"""One more photo in a fake Flickr's world."""

from __future__ import annotations

from popq.flickr.fake.world import FakePhoto


def add(world, number, data, **members):
    """Put a photo of these bytes into the world and return it."""
    photo = FakePhoto(
        flickr_id=number,
        owner=members.pop("owner", "12345678@N00"),
        server="65535",
        secret="aaaaaaaaaa",
        image=lambda: data,
        **members,
    )
    world.add(photo)
    return photo
