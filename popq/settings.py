"""Settings: from `popq.toml`, `.env`, the environment or a flag, read once, secrets masked.

Of these, the later wins over the earlier, and each of them over the defaults below. A name that
popq does not know is an error, since a typing mistake would otherwise be silently ignored.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from popq.errors import SECRET_OPTIONS, Misconfigured, without_password

PREFIX = "POPQ_"
#: Read by the test suite only, never by popq.
TEST_PREFIX = "POPQ_TEST_"
#: Where settings may stand beside the environment, in the folder where popq is started.
TOML, DOTENV = "popq.toml", ".env"
#: Where a setting's value may come from, weakest first.
SOURCES: Final = ("default", TOML, DOTENV, "environment", "flag")
#: Variables that a flag (`--set`) put into this process's environment.
_FLAGS: Final[set[str]] = set()
#: Brokers that carry doorbells, by their URLs' schemes.
BROKERS = ("redis", "rediss", "amqp", "amqps")


class Settings(BaseSettings):
    """The effective settings of one process; each field's name carries its unit."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, toml_file=TOML, extra="forbid", allow_inf_nan=False
    )

    data_dir: Path = Field(Path("popq-data"), description="where everything local lives")
    database_url: SecretStr | None = Field(
        None, description="the catalogue; default sqlite:///DATA_DIR/popq.db"
    )
    broker_url: SecretStr | None = Field(
        None, description="redis://… for Celery workers; none: workers poll the catalogue"
    )
    store_url: str | None = Field(
        None, description="where images are kept, any fsspec URL; default DATA_DIR/store"
    )
    flickr_keys: SecretStr | None = Field(
        None, description="API keys as key:secret, separated by commas"
    )
    flickr_api_url: str = Field(
        "https://api.flickr.com/services/rest/", description="the API's base URL"
    )
    flickr_oembed_url: str = Field(
        "https://www.flickr.com/services/oembed/",
        description="who is asked by --via oembed, which needs no key",
    )
    flickr_image_url: str = Field(
        "https://live.staticflickr.com", description="the image host's base URL"
    )
    flickr_calls_per_hour: float = Field(
        3500, gt=0, description="budget of each API key, and of oEmbed"
    )
    images_per_second: float = Field(5, gt=0, description="image budget of the installation")
    image_size: Literal["z", "c", "b", "", "w", "n"] = Field(
        "z", description="preferred rendition; z is 640 pixels on the long edge"
    )
    image_max_mb: float = Field(20, gt=0, description="largest image file that is fetched")
    connect_timeout_s: float = Field(5, gt=0, description="time to reach a host")
    read_timeout_s: float = Field(20, gt=0, description="silence after which a host is given up")
    lease_s: float = Field(60, gt=0, description="a silent worker's batch is taken after this")
    settle_every_s: float = Field(10, gt=0, description="finished photos are recorded this often")
    retry_wait_s: float = Field(30, ge=0, description="first wait after a transient failure")
    throttle_pause_s: float = Field(60, gt=0, description="first pause of a host after a 429")
    max_tries: int = Field(5, ge=1, description="tries of a photo in one job")
    io_threads: int = Field(8, ge=1, description="batches that one io worker holds at a time")
    flower_password: SecretStr | None = Field(
        None, description="password of `popq flower`; none: a new one is shown at each start"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    checkpoint_every_s: float = Field(
        600, ge=0, description="a run is saved so often within an epoch, and after each"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="what workers log"
    )

    @field_validator("database_url", "broker_url", "store_url", "flickr_keys", mode="before")
    @classmethod
    def _none_if_empty(cls, value: Any) -> Any:
        # As `popq init` writes them, and as compose hands on what is not set.
        return None if value == "" else value

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return value
        url = value.get_secret_value()
        if url.split("://")[0] not in BROKERS:
            raise ValueError(f"a broker's URL begins with {', '.join(BROKERS)}, and then ://")
        try:
            urlsplit(url).port  # noqa: B018 - read for its error
        except ValueError:
            # Not the error's words: they may quote the password.
            message = "it cannot be read as a URL; in a password, write # as %23, / as %2F"
            raise ValueError(message) from None
        return value

    @field_validator("flickr_image_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        # Paths begin with one: to an image host two are another path, of no photo that it knows.
        return value.rstrip("/")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put `.env` below the environment, and `popq.toml` below both."""
        del dotenv_settings, file_secret_settings
        # Only popq's own names: a `.env` is shared with others (docker compose, say).
        ours = {name[len(PREFIX) :].lower(): value for name, value in _dotenv().items()}
        dotenv = InitSettingsSource(settings_cls, init_kwargs=ours)
        return init_settings, env_settings, dotenv, TomlConfigSettingsSource(settings_cls)

    def catalogue_url(self) -> str:
        """Return the catalogue's SQLAlchemy URL, password included."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'popq.db'}"

    def broker(self) -> str | None:
        """Return the broker's URL, password included, or None without one."""
        return self.broker_url.get_secret_value() if self.broker_url else None

    def store(self) -> str:
        """Return the fsspec URL or path of the image store."""
        return self.store_url or str(self.data_dir / "store")

    def api_keys(self) -> list[tuple[str, str]]:
        """Return the Flickr keys as (key, secret); a key without a secret has an empty one."""
        if self.flickr_keys is None:
            return []
        pairs = [part.strip() for part in self.flickr_keys.get_secret_value().split(",")]
        split = [pair.partition(":") for pair in pairs if pair]
        return [(key, secret) for key, _, secret in split]

    def secrets(self) -> list[str]:
        """Return all that no log may hold: keys, their secrets, passwords, as given and decoded."""
        found = [part for pair in self.api_keys() for part in pair]
        urls = (self.catalogue_url(), self.broker() or "", self.store())
        for password in filter(None, (part for url in urls for part in _passwords(url))):
            found += [password, unquote(password)]
        if self.flower_password is not None:
            found.append(self.flower_password.get_secret_value())
        return list(filter(None, found))

    def masked(self) -> dict[str, str]:
        """Return every setting by its variable's name, passwords and keys masked."""
        shown = {f"{PREFIX}{name.upper()}": str(value) for name, value in self}
        if self.store_url is not None:
            shown[f"{PREFIX}STORE_URL"] = without_password(self.store_url)
        return shown


def load() -> Settings:
    """Read the settings of this process.

    Raises `Misconfigured` for a name that popq does not know (with the nearest known one), for a
    value out of its range, and for a file that cannot be read.
    """
    known = set(variables())
    for name in os.environ:
        if _is_ours(name) and name.upper() not in known:
            raise Misconfigured(f"{name} is no setting of popq{_nearest(name.upper(), known)}.")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "?"
        name = field if field.upper().startswith(PREFIX) else f"{PREFIX}{field.upper()}"
        if first["type"] == "extra_forbidden":
            message = f"{name.upper()} in {DOTENV} or {TOML} is no setting of popq"
            raise Misconfigured(f"{message}{_nearest(name.upper(), known)}.") from None
        where = sources().get(name.upper(), "default")
        message = f"{name.upper()} ({where}): {first['msg'].removeprefix('Value error, ')}"
        raise Misconfigured(f"{message}; `popq config show` lists what is set.") from None
    except (ValueError, OSError) as error:
        message = f"{TOML} or {DOTENV} cannot be read: {error}"
        raise Misconfigured(f"{message}. Correct it, or move it away.") from None


def variables() -> dict[str, str]:
    """Return the name of every setting's variable, and what the setting is."""
    fields = Settings.model_fields.items()
    return {f"{PREFIX}{name.upper()}": str(field.description) for name, field in fields}


def default(variable: str) -> str:
    """Return a setting's default as it is written in a table; "" for none."""
    value = Settings.model_fields[variable[len(PREFIX) :].lower()].default
    return "" if value is None else str(value)


def put(given: str) -> None:
    """Set one setting for this process and its children: NAME=VALUE, with or without POPQ_.

    Raises `Misconfigured` for a name that popq does not know, and where no value is given: that
    would set none, and a password that was asked for would be missing without a word.
    """
    name, equals, value = given.partition("=")
    variable = PREFIX + name.strip().upper().removeprefix(PREFIX).replace("-", "_")
    known = set(variables())
    if variable not in known:
        raise Misconfigured(f"--set {name}: no setting of popq{_nearest(variable, known)}.")
    if not equals:
        raise Misconfigured(f"--set {name}: no value; write --set {name}=VALUE.")
    os.environ[variable] = value
    _FLAGS.add(variable)


def no_color() -> bool:
    """Return whether the environment asks for no colours: https://no-color.org."""
    return bool(os.environ.get("NO_COLOR"))


def forbid_color() -> None:
    """Ask for no colours in this process and its children."""
    os.environ["NO_COLOR"] = "1"


def sources() -> dict[str, str]:
    """Return for every setting that is not at its default where its value comes from (`SOURCES`).

    Of a file that cannot be read nothing is told.
    """
    with contextlib.suppress(ValueError, OSError):
        table = TomlConfigSettingsSource(Settings).toml_data
        found = dict.fromkeys((f"{PREFIX}{name.upper()}" for name in table), TOML)
        found |= dict.fromkeys((name.upper() for name in _dotenv()), DOTENV)
        ours = [name.upper() for name in os.environ if _is_ours(name)]
        return found | {name: "flag" if name in _FLAGS else "environment" for name in ours}
    return {}


def example() -> str:
    """Return a `popq.toml` with every setting at its default, each a comment until it is wanted."""
    lines = [
        "# Settings of popq for commands that are started in this folder.",
        f"# {DOTENV}, the environment (POPQ_ and the name in capitals) and `popq --set NAME=VALUE`",
        "# win over this file. `popq config show` lists what is set, and where.",
    ]
    for name, field in Settings.model_fields.items():
        value: Any = "" if field.default is None else field.default
        shown = json.dumps(str(value) if isinstance(value, Path) else value)
        lines += ["", f"# {field.description}", f"# {name} = {shown}"]
    return "\n".join(lines) + "\n"


def environment(**values: object) -> dict[str, str]:
    """Return this process's environment for a child with just these settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not _is_ours(name)}
    return kept | {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items()}


def _passwords(url: str) -> list[str]:
    """Return the passwords in a URL as they stand there: to its last "@", and its options'."""
    _, _, rest = url.partition("://")
    login, at, _ = rest.rpartition("@")
    options = [part.partition("=") for part in rest.partition("?")[2].split("&")]
    found = [value for name, _, value in options if name in SECRET_OPTIONS]
    return [login.partition(":")[2], *found] if at else found


def _dotenv() -> dict[str, str | None]:
    """Return what `.env` says of popq: the file may be shared with others (docker compose, say)."""
    return {name: value for name, value in dotenv_values(DOTENV).items() if _is_ours(name)}


def _is_ours(name: str) -> bool:
    return name.upper().startswith(PREFIX) and not name.upper().startswith(TEST_PREFIX)


def _nearest(name: str, known: set[str]) -> str:
    match = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {match[0]}" if match else "; `popq config show` lists all"
