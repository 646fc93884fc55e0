"""A catalogue with all that a report tells of, made row by row: no training, real pictures."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from catalogue.scene import DATASET, Scene
from houses import jpeg

from popq.catalogue import datasets, judgements, runs, scores
from popq.catalogue.db import Catalogue
from popq.catalogue.scores import Scored
from popq.images.store import Store, key_for
from popq.report import page
from popq.stats import metrics, verdict

CONFIG = {
    "arch": "resnet18",
    "objective": "classify",
    "outputs": 3,
    "weights": "none",
    "epochs": 3,
    "batch_size": 16,
    "image_size": 64,
    "lr": 0.025,
    "nesterov": True,
    "seed": 5,
}
VERSIONS = {"python": "3.11.7", "torch": "2.14.0", "device": "cpu", "popq": "0.1.0"}
CUTS = [2.5, 6.0]
TIER_LABELS = [1.5, 4.0, 8.0]
FIRST_POSTED = dt.datetime(2012, 3, 1, tzinfo=dt.UTC)
#: The photo of that number lost its successor for this; 6 and 7 were posted in different years.
LOST_AFTER = {2: "private", 6: "not_found", 11: "not_found", 22: "placeholder"}


#: Titles and addresses that mean harm, or are merely odd.
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title><b>",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egpj.exe \u05e9\u05dc\u05d5\u05dd",
    "\U0001f469\u200d\U0001f52c\U0001f3fd \u0645\u0631\u062d\u0628\u0627",
    "\x00\x1b[31m",
    "t" * 10_000,
    "   \n ",
    None,
]
URLS = [
    "javascript:alert(1)",
    "JavaScript:alert(1)//https://",
    "data:text/html,<script>alert(1)</script>",
    "file:///etc/passwd",
    "http://www.flickr.com/photos/x/1",
    "//evil.example/",
    " https://evil.example/",
    "train/59@N75/775.jpg",
    'https://www.flickr.com/"onmouseover="alert(1)',
    "https://www.flickr.com/?a=1&b=<2>",
    "https://www.flickr.com/photos/x/2",
]


@dataclass(frozen=True)
class Epoch:
    """An epoch as the trainer reports it."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float = 0.025
    seconds: float = 2.0
    images_per_second: float = 123.25


class Reported(Scene):
    """A scene with a store, and the page that tells of both."""

    def __init__(self, catalogue: Catalogue, folder: Path) -> None:
        super().__init__(catalogue)
        self.folder = folder
        self.store = Store(str(folder / "store"))

    def picture(self, number: int) -> dict[str, str]:
        """Keep a picture in the store; return the columns of its photo."""
        data = jpeg(number, (300, 200) if number % 2 else (200, 300))
        sha256 = hashlib.sha256(data).hexdigest()
        key = key_for(sha256, "JPEG")
        self.store.put(data, key)
        return {"state": "stored", "file_key": key, "sha256": sha256}

    def stored(self, number: int, **values) -> int:
        """Insert a stored photo with a picture, a label and whatever else is given."""
        row = {
            "label": round(0.5 + number * 0.25, 2),
            "owner": f"{number % 7}@N00",
            "title": f"Photo {number}",
            "licence": number % 12,
            "page_url": f"https://www.flickr.com/photos/x/{number}",
        }
        return self.photo(**row | self.picture(number) | values)

    def frozen(self, photos: list[int], name: str = "set", **values) -> int:
        """Freeze photos into a data set: three tiers, every other photo for validation."""
        labels = dict(self.rows("SELECT id, label FROM photos"))
        members = [
            (photo, tier(labels[photo]), "val" if n % 2 else "train")
            for n, photo in enumerate(photos)
        ]
        row = {"name": name, "count": len(photos), "tiers": 3, "cuts": CUTS}
        row |= {"tier_labels": TIER_LABELS, "split_rule": "owner"}
        with self.catalogue.begin() as tx:
            dataset = datasets.create(tx, DATASET | row | values, members)
            datasets.set_channels(tx, dataset, [0.5, 0.4, 0.3], [0.2, 0.2, 0.25])
        return dataset

    def trained(
        self, dataset: int, *, epochs: int = 3, judged: dict | None = None, **config: str
    ) -> int:
        """Make a run that is done, with epochs and with metrics as the trainer computes them."""
        with self.catalogue.begin() as tx:
            run = runs.create(tx, dataset, CONFIG | config, seed=5)
            term = runs.claim(tx, run, "trainer", 60)
            for n in range(1, epochs + 1):
                epoch = Epoch(n, 1.1 / n, 0.3 + n / 10, 1.2 / n, 0.35 + n / 20)
                runs.add_epoch(tx, run, term, epoch, 60)
            runs.finish(
                tx,
                run,
                term,
                best_epoch=epochs or None,
                weights_sha256="beef" * 16,
                metrics=self.judged(dataset) if judged is None else judged,
                versions=VERSIONS,
            )
        return run

    def said(self, run: int, dataset: int, turn: int = 0) -> None:
        """Record made-up judgements of the validation split."""
        photos = [row[0] for row in self._validated(dataset)]
        shares = [probabilities(photo + turn) for photo in photos]
        tiers = [int(np.argmax(row)) + 1 for row in shares]
        values = [float(np.dot(row, TIER_LABELS)) for row in shares]
        with self.catalogue.begin() as tx:
            judgements.record(tx, run, photos, values, tiers, shares)

    def _validated(self, dataset: int) -> list[tuple]:
        return self.rows(
            "SELECT photo_id, label, tier FROM members WHERE dataset_id = :d AND split = 'val'"
            " ORDER BY photo_id",
            d=dataset,
        )

    def judged(self, dataset: int) -> dict:
        """Return metrics of made-up predictions for the validation split."""
        rows = self._validated(dataset)
        truth = np.array([row[2] for row in rows])
        shares = np.array([probabilities(row[0]) for row in rows])
        found = metrics.predictions(
            truth,
            shares.argmax(axis=1) + 1,
            np.array([row[1] for row in rows]),
            shares @ np.array(TIER_LABELS),
            tiers=3,
            probabilities=shares,
        )
        blind = {"majority": np.full(len(truth), 2), "mean_colour": truth % 3 + 1}
        owners = np.array([row[0] for row in rows]) % 7
        return verdict.judge(found, owners, blind, shared=owners < 1, resamples=40)

    def score(self, run: int, photos: list[int]) -> None:
        """Record made-up scores."""
        rows = [
            Scored(
                photo,
                float(np.dot(probabilities(photo), TIER_LABELS)),
                int(np.argmax(probabilities(photo))) + 1,
                probabilities(photo),
            )
            for photo in photos
        ]
        with self.catalogue.begin() as tx:
            assert scores.record(tx, run, rows) == len(photos)

    def whole(self, photos: int = 80) -> int:
        """Set the scene of a finished run with scores; return the run.

        A photo was posted every fifty days, by id; what is gone has no date, as on Flickr.
        """
        ids = []
        for number in range(photos):
            ids.append(self.stored(number, posted_at=FIRST_POSTED + number * dt.timedelta(50)))
            if number in LOST_AFTER:
                self.photo(state="gone", reason=LOST_AFTER[number])
        self.photo()
        self.photo(state="gone", reason="not_found")
        self.photo(state="rejected", reason="video", posted_at=FIRST_POSTED)
        crossing = {"owners": 0, "duplicates": 3, "neighbours": 12}
        run = self.trained(self.frozen(ids, ties=[1, 4], crossing=crossing))
        self.score(run, ids)
        return run

    def hostile(self) -> list[int]:
        """Set the scene of a run on photos that mean harm; return those it has not trained on."""
        photos = []
        for number, (title, url) in enumerate(zip(HOSTILE, URLS, strict=True)):
            values = {"title": title, "page_url": url, "owner": HOSTILE[number - 1]}
            photos += [self.stored(2 * number), self.stored(2 * number + 1, **values)]
        dataset = self.frozen(photos, "<script>alert('set')</script>")
        self.score(self.trained(dataset), photos)
        return photos[1::2]

    def page(self, run: int | None = None, against: int | None = None) -> Seen:
        """Return the report as a reader of HTML sees it."""
        return seen(page.make(self.catalogue, self.store, run, against).html.decode())


def tier(label: float) -> int:
    return 1 + sum(label >= cut for cut in CUTS)


def probabilities(photo: int) -> list[float]:
    """Return made-up shares of three tiers; every 20th photo has the same."""
    rng = np.random.default_rng(photo % 20)
    return [float(share) for share in rng.dirichlet([1, 1, 1])]


class Seen(HTMLParser):
    """What is in a page: its tags, its named numbers and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: dict[str, float] = {}
        self.shown: dict[str, str] = {}
        self.text = ""
        self._name: str | None = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        self._name = values.get("data-q")
        if self._name is not None:
            assert self._name not in self.numbers, f"{self._name} is there twice"
            self.numbers[self._name] = float(values["data-v"])
            self.shown[self._name] = ""

    def handle_endtag(self, tag):
        self._name = None

    def handle_data(self, data):
        self.text += data
        if self._name is not None:
            self.shown[self._name] += data

    def every(self, tag: str, attribute: str) -> list[str | None]:
        """Return an attribute of every tag of that name which has it."""
        return [
            values[attribute] for name, values in self.tags if name == tag and attribute in values
        ]

    def photos(self) -> list[int]:
        """Return the ids of the photos in the page's order."""
        return [int(photo) for photo in self.every("figure", "data-photo")]


def seen(html: str) -> Seen:
    return Seen(html)
