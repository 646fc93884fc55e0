"""The composition root: from settings to rooms that are wired together, once a process."""

from __future__ import annotations

import importlib
import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from popq import logs
from popq import settings as settings_module
from popq.catalogue import enqueuing, version
from popq.catalogue.db import Catalogue
from popq.catalogue.work import Filter
from popq.errors import Misconfigured, PopqError
from popq.flickr.client import FlickrClient
from popq.flickr.oembed import OEmbedClient
from popq.images.fetch import ImageClient
from popq.images.store import Store
from popq.settings import Settings
from popq.stages.batch import Stage
from popq.stages.download import AskAgain, Download
from popq.stages.drain import Drain
from popq.stages.ledger import Pace
from popq.stages.resolve import Resolve
from popq.stages.resolve_oembed import ResolveByOEmbed

if TYPE_CHECKING:
    from popq.learn.scorer import Scorer
    from popq.stages.train import Place

#: Which stages a queue's workers do; training is a run, not a job.
QUEUES = {"io": ("resolve", "download"), "gpu": ("score",)}


@dataclass
class Rooms:
    """Everything a command or a worker needs, made on first use from one set of settings."""

    settings: Settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened."""
        opened = vars(self)
        for client in opened.get("flickr_clients", {}).values():
            client.close()
        for name in ("image_client", "oembed_client", "catalogue"):
            if name in opened:
                opened[name].close()

    @cached_property
    def catalogue(self) -> Catalogue:
        """The catalogue; raises `Misconfigured` when it is no catalogue of ours."""
        catalogue = Catalogue(self.settings.catalogue_url(), self.worker)
        try:
            version.refuse_strangers(catalogue)
        except PopqError:
            catalogue.close()
            raise
        return catalogue

    @cached_property
    def store(self) -> Store:
        """The image store."""
        return Store(self.settings.store())

    @cached_property
    def flickr_clients(self) -> dict[str, FlickrClient]:
        """One client an API key, by the name of the key's row in `hosts`."""
        clients = [
            FlickrClient(
                key,
                secret,
                api_url=self.settings.flickr_api_url,
                connect_timeout_s=self.settings.connect_timeout_s,
                read_timeout_s=self.settings.read_timeout_s,
            )
            for key, secret in self.settings.api_keys()
        ]
        return {client.host: client for client in clients}

    @cached_property
    def oembed_client(self) -> OEmbedClient:
        """The client of Flickr's oEmbed service."""
        return OEmbedClient(
            self.settings.flickr_oembed_url,
            connect_timeout_s=self.settings.connect_timeout_s,
            read_timeout_s=self.settings.read_timeout_s,
        )

    @cached_property
    def image_client(self) -> ImageClient:
        """The client of the image host."""
        return ImageClient(
            base_url=self.settings.flickr_image_url,
            max_bytes=int(self.settings.image_max_mb * 1e6),
            connect_timeout_s=self.settings.connect_timeout_s,
            read_timeout_s=self.settings.read_timeout_s,
        )

    @cached_property
    def worker(self) -> str:
        """A name for this process that no other worker has."""
        return f"{self.machine}:{os.getpid()}:{uuid.uuid4().hex[:6]}"

    @property
    def machine(self) -> str:
        """This machine's name, with which the names of its workers begin."""
        return socket.gethostname()

    @property
    def pace(self) -> Pace:
        """How patient workers are."""
        s = self.settings
        return Pace(s.lease_s, s.settle_every_s, s.retry_wait_s, s.throttle_pause_s, s.max_tries)

    def log_as_worker(self) -> None:
        """Log from now on as a worker does: what its level says, under its name, no secret."""
        given, colors = self.settings, not settings_module.no_color()
        logs.for_workers(given.log_level, given.secrets(), self.worker, colors=colors)

    def makers(self) -> dict[str, Callable[[int | None], Stage]]:
        """Return what makes each photo stage, and other ways to do one (`stage-way`).

        Scoring's loads torch, so only when it is called.
        """
        return {
            "resolve": self._resolve,
            "resolve-oembed": self._resolve_without_key,
            "download": self._download,
            "score": self._score,
        }

    def enqueue(
        self,
        stage: str,
        *,
        by: str,
        run_id: int | None = None,
        only: Filter | None = None,
        limit: int | None = None,
        then: str | None = None,
        via: str | None = None,
        again: bool = False,
    ) -> enqueuing.Enqueued:
        """Make or extend the stage's job, in batches of the stage's size; see `enqueuing.enqueue`.

        `again` scores what the run has scored, too.
        """
        with self.catalogue.begin() as tx:
            if again:
                only = enqueuing.again(tx, run_id, only or {})
            return enqueuing.enqueue(
                tx,
                stage,
                size=BATCH_SIZES[stage],
                run_id=run_id,
                only=only,
                limit=limit,
                then=None if then is None else (then, BATCH_SIZES[then]),
                via=via,
                requested_by=by,
                max_tries=self.settings.max_tries,
            )

    def drain(self, *stages: str) -> Drain:
        """Return a drain of these stages for this process."""
        makers = self.makers()
        chosen = {name: make for name, make in makers.items() if name.split("-")[0] in stages}
        return Drain(self.catalogue, chosen, self.pace, self.worker)

    def trainer_place(self) -> Place:
        """Return where this process trains; loads torch."""
        place: Place = torch_stage("train").Place(
            store=self.store,
            packs=self.settings.data_dir / "packs",
            runs=self.settings.data_dir / "runs",
            device=self.settings.device,
            worker=self.worker,
            lease_s=self.settings.lease_s,
            save_every_s=self.settings.checkpoint_every_s,
        )
        return place

    def scorer(self, source: int | Path) -> Scorer:
        """Return a run's network, or that of an exported folder, ready to score; loads torch."""
        predict, device = torch_stage("predict"), self.settings.device
        if isinstance(source, Path):
            scorer: Scorer = predict.load_exported(source, device)
        else:
            runs_folder = self.settings.data_dir / "runs"
            scorer = predict.load_run(self.catalogue, runs_folder, source, device)
        return scorer

    def _resolve(self, run_id: int | None) -> Stage:
        del run_id
        return Resolve(
            self.flickr_clients,
            calls_per_hour=self.settings.flickr_calls_per_hour,
            image_base=self.settings.flickr_image_url,
            image_size=self.settings.image_size,
        )

    def _resolve_without_key(self, run_id: int | None) -> Stage:
        del run_id
        return ResolveByOEmbed(
            self.catalogue,
            self.oembed_client,
            calls_per_hour=self.settings.flickr_calls_per_hour,
            image_base=self.settings.flickr_image_url,
            image_size=self.settings.image_size,
        )

    def _download(self, run_id: int | None) -> Stage:
        del run_id
        return Download(
            self.catalogue,
            self.image_client,
            self.store,
            images_per_second=self.settings.images_per_second,
            image_base=self.settings.flickr_image_url,
            image_size=self.settings.image_size,
            ask_again=AskAgain(
                self.catalogue,
                self.flickr_clients,
                self.settings.flickr_calls_per_hour,
                self.settings.flickr_image_url,
            ),
        )

    def _score(self, run_id: int | None) -> Stage:
        if run_id is None:
            raise ValueError("a score job names its run")
        stage: Stage = torch_stage("score").Score(
            self.catalogue,
            self.store,
            runs_folder=self.settings.data_dir / "runs",
            packs_folder=self.settings.data_dir / "packs",
            run_id=run_id,
            device=self.settings.device,
        )
        return stage


def torch_stage(name: Literal["plan", "train", "score", "predict"]) -> Any:
    """Import a stage that needs torch, only where it is needed.

    Raises `Misconfigured` where popq was installed without it.
    """
    try:
        return importlib.import_module(f"popq.stages.{name}")
    except ModuleNotFoundError as error:
        message = f"Training and scoring need {error.name}, which is not installed"
        raise Misconfigured(f"{message}; pip install 'popq[train]'.") from error


#: What a batch of each stage holds, for those who cut jobs without loading the stage.
BATCH_SIZES = {"resolve": Resolve.batch_size, "download": Download.batch_size, "score": 2000}


def open_rooms() -> Rooms:
    """Read the settings of this process and return its rooms.

    Commands log only what a person should see; workers call `log_as_worker`.
    """
    if not logs.are_set():
        logs.for_commands(colors=not settings_module.no_color())
    settings = settings_module.load()
    logs.hide(settings.secrets())
    return Rooms(settings)
