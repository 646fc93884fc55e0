"""The demo: a Flickr-compatible server full of planted photos, and what a user would do with it.

Every step is a public command in a process of its own, so the demo shows just what a user gets;
its last act is to check that every step did what was planted.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from popq import planted, settings
from popq.errors import BadInput, PopqError
from popq.flickr.fake.faults import Fault, Faults, Host
from popq.flickr.fake.server import DEMO_KEY, DEMO_SECRET, FakeFlickr
from popq.flickr.fake.world import FakePhoto, Fate, World
from popq.flickr.urls import page_url
from popq.planted import PlantedPhoto

#: Photos a planted owner has on average.
PHOTOS_PER_OWNER: Final = 16
#: Of a hundred photos, how many meet each fate, and where popq must put them and why.
FATES: Final = {
    Fate.REMOVED: (2, "gone", "not_found"),
    Fate.PRIVATE: (1, "gone", "not_found"),
    Fate.IMAGE_GONE: (1, "gone", "gone"),
    Fate.IMAGE_PRIVATE: (1, "gone", "private"),
    Fate.PLACEHOLDER: (1, "gone", "placeholder"),
    Fate.VIDEO: (1, "rejected", "video"),
    Fate.CORRUPT: (1, "rejected", "corrupt"),
}
#: Faults that pass; one photo in forty meets one of them on each host.
PASSING: Final = (Fault.ERROR_502, Fault.CODE_201, Fault.HTML_200, Fault.RESET, Fault.EMPTY)
#: Seconds, about six years, over which the photos were posted: the report tells of losses by year.
YEARS_S: Final = 6 * 365 * 86_400
#: How long each host answers 429 to everyone, once.
THROTTLE_S: Final = 1.5
#: Rows of the list that name no photo, and the reason that popq must give.
BAD_ROWS: Final = {
    "https://www.flickr.com/photos/somebody/sets/72157600000000000": "album",
    "train/59@N75/775.jpg": "not_flickr",
}
TRAIN: Final = ("--arch", "resnet18", "--weights", "none", "--image-size", "64", "--epochs", "8")

SQL: Final = (
    "SELECT state, reason, count(*) FROM photo_status GROUP BY state, reason",
    "SELECT tier, predicted_tier, count(*) FROM scored_photos GROUP BY tier, predicted_tier",
    "SELECT url, label, score, predicted_tier FROM scored_photos ORDER BY score DESC LIMIT 10",
)


@dataclass(frozen=True)
class Plan:
    """What was planted, and so what must come out."""

    photos: list[PlantedPhoto]
    fates: dict[int, Fate]
    links: list[str]
    labels: list[str]

    def expected(self) -> Counter[str]:
        """Return how many photos must end in each "state reason"."""
        ends = Counter("stored" for _ in range(len(self.photos) - len(self.fates)))
        for fate in self.fates.values():
            ends[" ".join(FATES[fate][1:])] += 1
        return ends


def plan(photos: int, seed: int) -> Plan:
    """Plant `photos` photos, give some a fate, and write the list that a user would have."""
    if photos < 100:  # noqa: PLR2004 - fewer cannot be learnt from, nor meet every fate
        raise BadInput(f"{photos} photos are too few for the demo; take at least 100.")
    grown = planted.plant(photos, max(8, photos // PHOTOS_PER_OWNER), seed)
    rng = np.random.default_rng([seed, 1])
    order = iter(rng.permutation(photos).tolist())
    fates = {
        grown[next(order)].flickr_id: fate
        for fate, (percent, _, _) in FATES.items()
        for _ in range(max(1, photos * percent // 100))
    }
    links = [page_url(photo.flickr_id, photo.owner) for photo in grown]
    links[0] = f'"{links[0]}"'  # the official page shows quotes
    labels = [f"{photo.label:.2f}" for photo in grown]
    twice = f"http://m.flickr.com/photos/{grown[1].owner}/{grown[1].flickr_id}/"
    return Plan(
        grown,
        fates,
        [*links, twice, *BAD_ROWS],
        [*labels, labels[1], *("5.00" for _ in BAD_ROWS)],
    )


def server(made: Plan) -> FakeFlickr:
    """Return the Flickr of the plan, with faults that pass and a throttling of each host."""
    world, faults = World(), Faults()
    first, last = made.photos[0].posted_at, made.photos[-1].posted_at
    for photo in made.photos:
        world.add(
            FakePhoto(
                flickr_id=photo.flickr_id,
                owner=photo.owner,
                server="65535",
                secret=f"{photo.flickr_id:010x}"[-10:],
                image=lambda photo=photo: planted.render(photo),  # type: ignore[misc]
                title=f"Planted {photo.flickr_id}",
                posted_at=first + YEARS_S * (photo.posted_at - first) // (last - first),
                fate=made.fates.get(photo.flickr_id, Fate.LIVE),
            )
        )
    live = [photo.flickr_id for photo in made.photos if photo.flickr_id not in made.fates]
    for number, flickr_id in enumerate(live[::40]):
        faults.fail_photo(flickr_id, PASSING[number % len(PASSING)])
        faults.fail_photo(flickr_id, Fault.ERROR_502, host=Host.IMAGE)
    for host in Host:
        faults.throttle_for(THROTTLE_S, host=host, after_calls=len(live) // 2)
    return FakeFlickr(world, faults=faults)


def demo(
    photos: int, seed: int, folder: Path | None, on_step: Callable[[str], None]
) -> dict[str, Any]:
    """Run the whole chain and return the summary; `broken` lists what did not hold.

    `folder` is kept (default: a new temporary one, kept too). `on_step` gets each command's line.
    Raises `BadInput` when the folder has something in it.
    """
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="popq-demo-"))
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be made: {error.strerror}; name another.") from error
    if any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty; name a new folder for the demo.")
    made = plan(photos, seed)
    (folder / "links.txt").write_text("\n".join(made.links) + "\n", encoding="utf-8")
    (folder / "labels.txt").write_text("\n".join(made.labels), encoding="utf-8")
    with server(made) as flickr:
        on_step(f"# a Flickr-compatible server at {flickr.image_url} serves {photos} photos")
        walk = _Walk(folder, flickr, on_step)
        steps = walk.all(seed)
    return _summary(made, folder, steps)


class _Walk:
    """Runs popq's commands in the demo's folder, as a user would."""

    def __init__(self, folder: Path, flickr: FakeFlickr, on_step: Callable[[str], None]) -> None:
        self._folder = folder
        self._on_step = on_step
        self._environment = settings.environment(
            data_dir=folder / "popq-data",
            flickr_api_url=flickr.api_url,
            flickr_image_url=flickr.image_url,
            flickr_keys=f"{DEMO_KEY}:{DEMO_SECRET}",
            # The server is on this machine, so nobody needs to be spared; waits are short.
            flickr_calls_per_hour=360_000,
            images_per_second=200,
            retry_wait_s=0.5,
            throttle_pause_s=0.5,
        )

    def all(self, seed: int) -> dict[str, Any]:
        """Do every step; a command that fails ends the demo with its own message."""
        listed = ("import", "links.txt", "--labels", "labels.txt")
        return {
            "init": self._popq("init"),
            "import": self._popq(*listed),
            "again": self._popq(*listed),
            "resolve": self._popq("resolve"),
            "download": self._popq("download"),
            "dataset": self._popq("dataset", "create", "demo", "--val", "0.3"),
            "run": self._popq("train", "--dataset", "demo", *TRAIN, "--seed", str(seed)),
            "score": self._popq("score"),
            "status": self._popq("status"),
            "report": self._popq("report", "-o", "report.html"),
        }

    def _popq(self, *arguments: str) -> Any:
        self._on_step(f"$ popq {shlex.join(arguments)}")
        command = [sys.executable, "-m", "popq", *arguments, "--json"]
        done = subprocess.run(  # noqa: S603 - popq itself
            command,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            check=False,
            text=True,
        )
        if done.returncode != 0:
            shown = shlex.join(arguments)
            message = f"`popq {shown}` ended with status {done.returncode}; see above"
            raise PopqError(f"{message}. The demo's files are in {self._folder}.")
        return json.loads(done.stdout)


def _summary(made: Plan, folder: Path, steps: dict[str, Any]) -> dict[str, Any]:
    metrics = steps["run"]["metrics"]
    photos = {name: count for name, count in steps["status"]["photos"].items() if count}
    return {
        "photos": photos,
        "reasons": steps["status"]["reasons"],
        "rejected_rows": steps["import"]["reasons"],
        "tiers": steps["dataset"]["photos_by_tier"],
        "cuts": steps["dataset"]["cuts"],
        "splits": steps["dataset"]["splits"],
        "mean": steps["dataset"]["mean"],
        "std": steps["dataset"]["std"],
        "accuracy": metrics["accuracy"],
        "spearman": metrics["spearman"],
        "p_chance": metrics["p_chance"],
        "without_pixels": metrics["without_pixels"],
        "best_possible": planted.best_accuracy(),
        "scored": steps["score"]["moved"],
        "catalogue": str(folder / "popq-data" / "popq.db"),
        "report": str(folder / steps["report"]["report"]),
        "sql": list(SQL),
        "broken": _broken(made, steps, photos),
    }


def _broken(made: Plan, steps: dict[str, Any], photos: dict[str, int]) -> list[str]:
    """Return what did not come out as planted, in words; nothing when every step held."""
    expected = made.expected()
    by_reason: Counter[str] = Counter()
    for end, count in expected.items():
        by_reason[end.split()[-1]] += count
    stored = by_reason.pop("stored")
    metrics = steps["run"]["metrics"]
    best_blind = max(metrics["without_pixels"].values())
    held = {
        "every planted photo was imported": steps["import"]["new"] == len(made.photos),
        "rows that name no photo were rejected": sorted(steps["import"]["reasons"])
        == sorted(BAD_ROWS.values()),
        "a second import changed nothing": steps["again"]["new"] == steps["again"]["updated"] == 0,
        "every live photo is stored": photos.get("stored") == stored,
        "every other photo left for its own reason": steps["status"]["reasons"] == by_reason,
        "every stored photo is in the data set": steps["dataset"]["count"] == stored,
        "the model beats chance": metrics["p_chance"] < 0.001,  # noqa: PLR2004 - the seed's level
        "the model beats every predictor without pixels": metrics["accuracy"] > best_blind,
        "every stored photo is scored": steps["score"]["moved"] == stored,
        "the report is about the run": steps["report"]["run"] == steps["run"]["id"],
    }
    return [claim for claim, true in held.items() if not true]
