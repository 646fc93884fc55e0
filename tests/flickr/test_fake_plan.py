"""Fault plans: files, what is wrong with them, and an outage played through."""

from __future__ import annotations

import tomllib

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from popq.errors import BadInput
from popq.flickr.fake import plan
from popq.flickr.fake.faults import Faults, Host
from popq.flickr.fake.server import DEMO_KEY, FakeFlickr
from popq.flickr.fake.world import Dialect, FakePhoto, Fate, Look, World

EVERYTHING = """
[keys]
"11111111111111111111111111111111" = "secret"

[world]
dialect = "ints"
private_code = 2
gone_status = 404
string_codes = true
json_type = "application/json"
refuse_replayed_nonces = true
oembed_missing_status = 410
oembed_private_status = 404
deleted_owners = ["99999999@N00"]

[[photo]]
robots = "noai"

[[photo]]
photos = [3]
rows = [1, 2]
fate = "private"
look = "cmyk"
secret = "abc"
views = 12
free_account = true
downloadable = false
missing_extras = ["url_z"]
missing_sizes = ["z"]

[[rule]]
fault = "502"

[[rule]]
name = "all"
fault = ["429", "slow"]
host = "image"
photos = [1]
rows = [2, 9]
keys = ["127.0.0.1"]
kinds = ["size z"]
from_s = 1
to_s = 2.5
from_call = 3
to_call = 4
every = 2
times = 5
budget = 6
window_s = 7
lasts_s = 8
slow_s = 9
retry_after_s = 10
"""


def small_world(photos):
    world = World()
    for number in range(1, photos + 1):
        world.add(FakePhoto(number, "12345678@N00", "65535", f"{number:010x}", lambda: b""))
    return world


def test_everything_that_a_plan_can_say(tmp_path):
    (tmp_path / "plan.toml").write_text(EVERYTHING)
    world, faults, keys = small_world(4), Faults(), {"k": "s"}
    plan.read_file(tmp_path / "plan.toml").apply(world, faults, keys)
    assert keys == {"k": "s", "1" * 32: "secret"}
    assert (world.dialect, world.private_code, world.gone_status) == (Dialect.INTS, 2, 404)
    assert (world.string_codes, world.json_type) == (True, "application/json")
    assert (world.refuse_replayed_nonces, world.deleted_owners) == (True, {"99999999@N00"})
    assert (world.oembed_missing_status, world.oembed_private_status) == (410, 404)
    assert [photo.fate for photo in world.photos.values()] == [Fate.PRIVATE] * 3 + [Fate.LIVE]
    assert {photo.robots for photo in world.photos.values()} == {"noai"}
    first = world.photos[1]
    assert (first.look, first.secret, first.views) == (Look.CMYK, "abc", 12)
    assert (first.free_account, first.downloadable) == (True, False)
    assert (first.missing_extras, first.missing_sizes) == ({"url_z"}, {"z"})
    assert [name for name, _, _ in faults.rules()] == ["rule 1", "all"]
    rule = faults.rule("all")
    assert (rule.host, rule.photos, rule.faults) == (Host.IMAGE, {1, 2, 3, 4}, ("429", "slow"))
    numbers = (rule.from_s, rule.to_s, rule.from_call, rule.to_call, rule.every, rule.times)
    assert numbers == (1, 2.5, 3, 4, 2, 5)
    rest = (rule.budget, rule.window_s, rule.lasts_s, rule.slow_s, rule.retry_after_s)
    assert rest == (6, 7, 8, 9, 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[rule]", "is no TOML"),
        ("\0", "is no TOML"),
        ("[[rule]]", "rule 1 fault: Field required"),
        ('[[rule]]\nfault = "503"', "rule 1 fault 1: Input should be '500', '502'"),
        ("[[rule]]\nfault = []", "rule 1 fault: List should have at least 1 item"),
        ('[[rule]]\nfault = "502"\nform_s = 3', "rule 1 form_s: there is nothing"),
        ('[[rule]]\nfault = "502"\nrows = [9, 1]', "the first row is after the last"),
        ('[[rule]]\nfault = "502"\nrows = [0, 1]', "rule 1 rows 1: Input should be greater"),
        ('[[rule]]\nfault = "502"\nto_s = "x"', "rule 1 to_s: Input should be a valid number"),
        ('[[rule]]\nfault = "502"\nto_s = nan', "rule 1 to_s"),
        ('[[rule]]\nfault = "502"\nevery = 0', "rule 1 every"),
        ('[world]\ndialect = "x"', "world dialect"),
        ('[[photo]]\nfate = "x"', "photo 1 fate"),
        ('[[photo]]\nsecret = "a/b"', "photo 1 secret"),
        ('[[photo]]\nrobots = "a\\nb"', "photo 1 robots"),
        ('[outcomes]\nfile = "none.txt"', "none.txt cannot be read"),
        ('[outcomes]\nfile = "plan.toml"', "plan.toml, line 1"),
        ("[outcomes]\noutage = [1, 2]", "outcomes file: Field required"),
        ("rules = 3", "rules: there is nothing"),
    ],
)
def test_what_is_wrong_and_where(tmp_path, text, words):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as failed:
        plan.read_file(path)
    assert words in str(failed.value)
    assert str(tmp_path) in str(failed.value)
    assert "\n" not in str(failed.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match=r"none\.toml cannot be read: No such file"):
        plan.read_file(tmp_path / "none.toml")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="is no TOML"):
        plan.read_file(tmp_path / "bytes")
    (tmp_path / "plan.toml").write_text('[outcomes]\nfile = "bytes"')
    with pytest.raises(BadInput, match="bytes is no text"):
        plan.read_file(tmp_path / "plan.toml")


def test_a_strange_photo_changes_nothing():
    world, faults, keys = small_world(2), Faults(), {}
    members = {
        "keys": {"a": "b"},
        "rule": [{"fault": "502"}, {"fault": "502", "photos": [3]}],
        "photo": [{"fate": "private"}],
    }
    with pytest.raises(BadInput, match="names photo 3, which is not served"):
        plan.read(members, "the plan").apply(world, faults, keys)
    assert (world.photos[1].fate, faults.rules(), keys) == (Fate.LIVE, [], {})


runs = st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=30)


@given(runs=runs, outage=st.none() | st.tuples(st.integers(1, 200), st.integers(1, 200)))
def test_failed_rows_are_those_of_the_runs_written_out(runs, outage):
    written_out = [ok for ok, count in runs for _ in range(count)]
    expected = [
        row
        for row, ok in enumerate(written_out, start=1)
        if not ok and (outage is None or not outage[0] <= row <= outage[1])
    ]
    assert list(plan.failed_rows(runs, outage)) == expected


@given(st.text(max_size=200))
def test_no_text_is_a_bug(text):
    try:
        members = tomllib.loads(text)
    except ValueError:
        return
    try:
        plan.read(members, "x").apply(World(), Faults(), {})
    except BadInput:
        return
    assert set(members) <= {"keys", "world", "photo", "rule", "outcomes"}


OUTAGE = """
[outcomes]
file = "outcomes.txt"
outage = [31, 50]

# The API is down from its 31st call on, for twenty calls.
[[rule]]
name = "outage"
fault = ["500", "502", "504", "code_105", "code_201", "html_200", "close"]
from_call = 31
to_call = 50
"""


def test_an_outage_played_through(tmp_path, session):
    (tmp_path / "plan.toml").write_text(OUTAGE)
    (tmp_path / "outcomes.txt").write_text("ok 20\nfailed 1\nok 9\nfailed 18\nok 1\nfailed 1\n\n")
    world = small_world(60)
    with FakeFlickr(world) as fake:
        fake.apply(plan.read_file(tmp_path / "plan.toml"))

        def outcome(number):
            params = {"method": "flickr.photos.getInfo", "photo_id": number, "api_key": DEMO_KEY}
            params |= {"format": "json", "nojsoncallback": 1}
            try:
                answer = session.get(fake.api_url, params=params)
                return answer.json()["stat"] if answer.status_code == 200 else "later"
            except (requests.ConnectionError, requests.exceptions.JSONDecodeError):
                return "later"

        first = [outcome(number) for number in world.photos]
        again = [outcome(number) for number in world.photos]
        met = fake.counters()["statuses"]["api"]
        session.close()
    dead = ["ok"] * 20 + ["fail"] + ["ok"] * 39
    assert again == dead
    assert first[:30] + first[50:] == dead[:30] + dead[50:]
    assert "ok" not in first[30:50]
    # Seven faults in turn, twenty times; the rest is HTTP 200.
    assert met == {"200": 109, "500": 3, "502": 3, "504": 3, "0": 2}


def test_an_outage_by_rows_until_it_is_switched_off(session):
    world = small_world(10)
    with FakeFlickr(world) as fake:
        rule = {"name": "outage", "fault": "502", "rows": [4, 6]}
        url = f"{fake.desk_url}faults"
        assert session.post(url, json={"rule": [rule]}).status_code == 200

        def statuses():
            query = "?method=flickr.photos.getInfo&photo_id="
            return [session.get(f"{fake.api_url}{query}{n}").status_code for n in world.photos]

        assert statuses() == [200] * 3 + [502] * 3 + [200] * 4
        assert session.get(url).json() == {"rules": [{"name": "outage", "seen": 3, "struck": 3}]}
        assert session.delete(f"{url}/outage").json() == {"rules": []}
        assert statuses() == [200] * 10
        session.close()
