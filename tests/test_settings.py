from __future__ import annotations

from pathlib import Path

import pytest

from popq import settings
from popq.errors import Misconfigured, without_password


def test_the_example_sets_nothing_until_a_comment_is_taken_away():
    Path("popq.toml").write_text(settings.example())
    assert settings.sources() == {}
    assert settings.load() == settings.Settings()
    lines = [line.removeprefix("# ") for line in settings.example().splitlines() if " = " in line]
    written = [line for line in lines if not line.endswith('""')]  # empty ones name what is unset
    Path("popq.toml").write_text("\n".join(written))
    loaded = settings.load()
    assert len(settings.sources()) == len(written) > 10
    assert loaded == settings.Settings()


@pytest.mark.parametrize("name", ["database_url", "broker_url", "store_url", "flickr_keys"])
def test_what_is_empty_is_not_set(monkeypatch, name):
    Path("popq.toml").write_text(f'{name} = ""')
    assert settings.load() == settings.Settings()
    assert getattr(settings.load(), name) is None
    monkeypatch.setenv(f"POPQ_{name.upper()}", "")
    assert getattr(settings.load(), name) is None


@pytest.mark.parametrize("name", ["max-tries", "MAX_TRIES", "POPQ_MAX_TRIES"])
def test_a_flag_is_known_by_any_spelling_of_its_name(monkeypatch, name):
    monkeypatch.setenv("POPQ_MAX_TRIES", "9")
    settings.put(f"{name}=2")
    assert settings.load().max_tries == 2
    assert settings.sources() == {"POPQ_MAX_TRIES": "flag"}


def test_an_unknown_flag_names_the_nearest_setting():
    with pytest.raises(Misconfigured, match="did you mean POPQ_MAX_TRIES"):
        settings.put("max_trys=2")


def test_a_flag_without_a_value_is_refused():
    with pytest.raises(Misconfigured, match="write --set flower_password=VALUE"):
        settings.put("flower_password")
    settings.put("flower_password=")
    assert settings.sources() == {"POPQ_FLOWER_PASSWORD": "flag"}


def test_the_image_hosts_url_may_end_in_a_slash(monkeypatch):
    monkeypatch.setenv("POPQ_FLICKR_IMAGE_URL", "https://live.staticflickr.com/")
    assert settings.load().flickr_image_url == "https://live.staticflickr.com"


def test_a_wrong_value_is_told_with_where_it_stands():
    Path("popq.toml").write_text("max_tries = 0")
    with pytest.raises(Misconfigured, match=r"POPQ_MAX_TRIES \(popq\.toml\)"):
        settings.load()
    Path("popq.toml").write_text('broker_url = "ftp://x"')
    with pytest.raises(Misconfigured, match=r"POPQ_BROKER_URL \(popq\.toml\): a broker's URL"):
        settings.load()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[max_tries]\nx = 1", b"max_tries = ["])
def test_a_file_that_is_no_settings_is_an_error_of_one_line(content):
    Path("popq.toml").write_bytes(content)
    with pytest.raises(Misconfigured, match=r"popq\.toml") as told:
        settings.load()
    assert "\n" not in str(told.value).strip()


def test_keys_may_be_several_and_a_secret_may_be_missing(monkeypatch):
    monkeypatch.setenv("POPQ_FLICKR_KEYS", "a:b, c ,d:e")
    assert settings.load().api_keys() == [("a", "b"), ("c", ""), ("d", "e")]


def test_defaults_lie_below_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("POPQ_DATA_DIR", str(tmp_path))
    loaded = settings.load()
    assert loaded.catalogue_url() == f"sqlite:///{tmp_path}/popq.db"
    assert loaded.store() == f"{tmp_path}/store"


def test_masked_hides_what_is_secret(monkeypatch):
    monkeypatch.setenv("POPQ_FLICKR_KEYS", "key:hush")
    monkeypatch.setenv("POPQ_DATABASE_URL", "postgresql+psycopg://me:hush@db/popq")
    monkeypatch.setenv("POPQ_STORE_URL", "s3://id:hush@bucket/photos")
    shown = settings.load().masked()
    assert "hush" not in str(shown)
    assert shown["POPQ_STORE_URL"] == "s3://***@bucket/photos"


@pytest.mark.parametrize("password", ["hush", "hu/sh", "hu@sh", "h/u@s/h"])
def test_no_password_is_shown_whatever_is_in_it(password):
    assert without_password(f"s3://id:{password}@bucket/photos") == "s3://***@bucket/photos"


def test_a_broken_toml_is_named(tmp_path):
    Path("popq.toml").write_text("this is = = no toml")
    with pytest.raises(Misconfigured, match=r"popq\.toml"):
        settings.load()


def test_a_child_gets_the_named_settings_and_no_others(monkeypatch):
    monkeypatch.setenv("POPQ_MAX_TRIES", "9")
    child = settings.environment(lease_s=3)
    assert child["POPQ_LEASE_S"] == "3"
    assert "POPQ_MAX_TRIES" not in child
    assert "PATH" in child


def test_names_of_others_in_a_shared_env_file_are_none_of_popqs_business():
    Path(".env").write_text("REDIS_PASSWORD=x\nPOPQ_MAX_TRIES=3\n")
    assert settings.load().max_tries == 3


def test_an_unknown_name_of_popqs_in_an_env_file_is_an_error():
    Path(".env").write_text("POPQ_MAX_TRYS=3\n")
    with pytest.raises(Misconfigured, match=r"POPQ_MAX_TRYS.*did you mean POPQ_MAX_TRIES"):
        settings.load()
