"""Every shape of file that a list, its labels and its metadata come in, whole and broken."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue
from popq.errors import BadInput
from popq.stages.ingest import STDIN, Source, check_readable, ingest

BASE = {"image_base": "https://live.staticflickr.com", "image_size": "z"}
PAGES = [f"https://www.flickr.com/photos/{n % 2 + 1}0000@N00/38507002{n}" for n in range(4)]


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    catalogue = Catalogue(f"sqlite:///{tmp_path_factory.mktemp('shapes')}/c.db")
    migrate.upgrade(catalogue)
    yield catalogue
    catalogue.close()


@pytest.fixture
def catalogue(empty):
    wipe(empty)
    return empty


def wipe(catalogue):
    with catalogue.begin() as tx:
        for table in ("metadata", "photos"):
            tx.exec_driver_sql(f"DELETE FROM {table}")


def rows(catalogue, columns="flickr_id, label", table="photos"):
    with catalogue.read() as tx:
        return [tuple(row) for row in tx.exec_driver_sql(f"SELECT {columns} FROM {table}")]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jpeg(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (80, 64), "red").save(path)


def wanted(n):
    return [(385070020 + place, place + 0.5) for place in range(n)]


def zipped(**members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/", 1) if "/" not in name else name, content)
        archive.writestr("__MACOSX/._train_img.txt", b"\0\5\26\7 noise")
        archive.writestr("train/.DS_Store", b"\0")
    return packed.getvalue()


CSV = "url,score\n" + "".join(f"{page},{n}.5\n" for n, page in enumerate(PAGES))
OBJECTS = [{"url": page, "score": n + 0.5} for n, page in enumerate(PAGES)]


def parquet(objects=OBJECTS):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(objects), file)
    return file.getvalue()


TABLES = {
    "csv": CSV.encode(),
    "csv with comma decimals": CSV.replace(",", ";").replace(".5", ",5").encode(),
    "tsv with BOM and CRLF": b"\xef\xbb\xbf"
    + CSV.replace(",", "\t").replace("\n", "\r\n").encode(),
    "json lines": "\n".join(map(json.dumps, OBJECTS)).encode(),
    "json": json.dumps(OBJECTS).encode(),
    "parquet": parquet(),
}


@pytest.mark.parametrize("shape", TABLES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda b: zipped(train__data=b)])
def test_a_table_of_any_shape_and_packing(catalogue, tmp_path, shape, pack):
    path = write(tmp_path / "list", pack(TABLES[shape]))
    report = ingest(catalogue, Source(path, url_col="url", label_col="score"), **BASE)
    assert (report.new, report.rejected) == (4, 0)
    assert rows(catalogue) == wanted(4)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda b: zipped(x__train_img=b)])
def test_a_plain_list_of_any_packing_and_from_standard_input(
    catalogue, tmp_path, monkeypatch, pack
):
    path = write(tmp_path / "train_img.txt", pack("\n".join(PAGES).encode()))
    labels = write(tmp_path / "labels", gzip.compress(b"0,5\n1.5\n2.5\n3.5"))
    with path.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        assert ingest(catalogue, Source(STDIN, labels), **BASE).new == 4
    assert ingest(catalogue, Source(path, labels), **BASE).unchanged == 4
    assert rows(catalogue) == wanted(4)


@pytest.mark.parametrize("shape", TABLES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda b: zipped(data=b)])
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_file_cut_anywhere_is_refused_or_gives_rows_that_were_in_it(
    empty, tmp_path_factory, shape, pack, data
):
    whole = pack(TABLES[shape])
    cut = data.draw(st.integers(0, len(whole) - 1))
    path = write(tmp_path_factory.mktemp("cut") / "list", whole[:cut])
    wipe(empty)
    try:
        report = ingest(empty, Source(path, url_col="url"), **BASE)
    except BadInput:
        assert rows(empty) == []
    else:
        assert report.read == report.new + report.unchanged + report.rejected
        if not shape.startswith(("csv", "tsv")):  # whose last number may be cut to another
            assert {photo for photo, _ in rows(empty)} <= {photo for photo, _ in wanted(4)}


def test_standard_input_is_but_one_file(tmp_path):
    with pytest.raises(BadInput, match="Only one of"):
        check_readable(Source(STDIN, STDIN))
    with pytest.raises(BadInput, match="Only one of"):
        check_readable(Source(STDIN, metadata=(STDIN,)))


def test_columns_beside_the_link_are_taken_too(catalogue, tmp_path):
    said = {"title": "T &amp; U", "tags": ["a", "b"], "views": "15", "license": 4, "owner": "9@N09"}
    dates = {"posted_at": "2017-03-24T17:27:52+00:00", "datetaken": "0000-00-00 00:00:00"}
    lines = [
        {"url": PAGES[0], **said, **dates},
        {"url": "385070029", **said},
        {"url": PAGES[1], "title": "None", "views": None, "tags": ""},
    ]
    path = write(tmp_path / "list.jsonl", "\n".join(map(json.dumps, lines)))
    assert ingest(catalogue, Source(path, url_col="url"), **BASE).new == 3
    columns = "owner, title, tags, views, licence, posted_at, taken_at"
    assert rows(catalogue, columns) == [
        ("10000@N00", "T & U", "a b", 15, 4, "2017-03-24 17:27:52.000000", None),
        ("9@N09", "T & U", "a b", 15, 4, None, None),
        ("20000@N00", None, None, None, None, None, None),
    ]


# The data set of 2022 and later: paths of files, and metadata files beside them.

PATHS = [f"train/{n % 2 + 1}@N75/77{n}.jpg" for n in range(4)]
IDS = [{"Uid": f"{n % 2 + 1}@N75", "Pid": f"77{n}" if n % 2 else 770 + n} for n in range(4)]
TEXT = [{**i, "Title": f"T{n}", "Alltags": "x y", "Mediatype": "photo"} for n, i in enumerate(IDS)]
TIME = [
    {**i, "Postdate": str(1425168000 + n), "Latitude": "0", "Geoaccuracy": 0}
    for n, i in enumerate(IDS)
]
USER = {
    name: {str(n): value for n, value in enumerate(values)}
    for name, values in {
        "Uid": [i["Uid"] for i in IDS],
        "Pid": [i["Pid"] for i in IDS],
        "ispro": ["1", "None", "0", None],
        "user_description": ["0.1,0.2", "\n", "a\0b", "\ud800"],
    }.items()
}
MORE = [{**i, "Pathalias": "None", "Ispublic": 1, "Mediastatus": "ready"} for i in IDS]
CATEGORY = [{**i, "Category": "Animal", "Subcategory": "cat", "Concept": "kitten"} for i in IDS]
FILES = {
    "train_text.json": TEXT,
    "train_temporalspatial_information.json": TIME,
    "train_user_data.json": USER,
    "train_additional_information.json": MORE,
    "train_category.json": CATEGORY,
}


@pytest.mark.parametrize("number", ["15.0", " 15.0 ", 15.0, "15", 15])
def test_whole_numbers_that_pandas_wrote_as_floats_are_read(catalogue, tmp_path, number):
    """It does so with a whole column as soon as one of its values is missing."""
    said = {"url": PAGES[0], "views": number, "license": number, "postdate": number}
    links = write(tmp_path / "l.jsonl", json.dumps(said))
    ingest(catalogue, Source(links, url_col="url"), **BASE)
    found = rows(catalogue, "views, licence, posted_at")
    assert found == [(15, 15, "1970-01-01 00:00:15.000000")]


@pytest.fixture
def paths(tmp_path):
    """A list of paths and a folder that has them."""
    for path in PATHS:
        jpeg(tmp_path / "images" / path)
    write(tmp_path / "images" / "__MACOSX" / "._775.jpg", b"noise")
    return write(tmp_path / "train_img_filepath.txt", "\n".join(PATHS))


def in_folder(paths, **more):
    return Source(paths, images_dir=paths.parent / "images", **more)


def test_files_of_a_folder_come_in_by_their_paths_and_never_as_flickr_ids(catalogue, paths):
    report = ingest(catalogue, in_folder(paths), **BASE)
    assert (report.new, report.rejected) == (4, 0)
    found = rows(catalogue, "flickr_id, source_key, owner, state")
    assert found[0] == (None, "train/1@N75/770.jpg", "1@N75", "resolved")
    assert [row[1] for row in found] == PATHS
    assert ingest(catalogue, in_folder(paths), **BASE).unchanged == 4


@pytest.mark.parametrize(
    "move", [("images/train", "wrapped/SMP_train/train"), ("images/train", "SMP_train_images")]
)
def test_what_was_unpacked_may_lie_a_folder_deeper_or_higher(catalogue, paths, move):
    old, new = (paths.parent / name for name in move)
    new.parent.mkdir(parents=True, exist_ok=True)
    old.rename(new)
    folder = paths.parent / move[1].split("/")[0]
    report = ingest(catalogue, Source(paths, images_dir=folder), **BASE)
    assert (report.new, report.rejected) == (4, 0)


def test_a_list_of_test_photos_finds_no_training_photos(catalogue, paths):
    write(paths, "\n".join(path.replace("train/", "test/") for path in PATHS))
    source = Source(paths, images_dir=paths.parent / "images" / "train")
    with pytest.raises(BadInput, match=r"'test/1@N75/770\.jpg' is not in"):
        ingest(catalogue, source, **BASE)


def test_a_folder_whose_name_is_no_utf8_serves_too(catalogue, paths):
    (paths.parent / "images").rename(os.fsdecode(os.fsencode(paths.parent) + b"/im\xe9ges"))
    folder = Path(os.fsdecode(os.fsencode(paths.parent) + b"/im\xe9ges"))
    assert ingest(catalogue, Source(paths, images_dir=folder), **BASE).new == 4


def test_a_path_that_is_missing_or_leads_out_is_rejected_by_name(catalogue, paths, tmp_path):
    (tmp_path / "images" / PATHS[1]).unlink()
    write(tmp_path / "secret.jpg", b"x")
    listed = [*PATHS, "../secret.jpg", str(tmp_path / "secret.jpg"), PAGES[0], ""]
    write(paths, "\n".join([*listed, PATHS[0]]))
    report = ingest(catalogue, in_folder(paths), **BASE)
    assert (report.new, report.unchanged) == (3, 1)
    assert report.reasons == {"file_missing": 4, "empty": 1}
    assert [r.line for r in report.rejections] == [2, 5, 6, 7, 8]


def test_a_folder_that_is_none_is_refused(catalogue, paths, tmp_path):
    with pytest.raises(BadInput, match=r"--images-dir .* cannot be read"):
        ingest(catalogue, Source(paths, images_dir=tmp_path / "nowhere"), **BASE)


@pytest.fixture(params=["files", "folder", "zip", "gz"])
def metadata(request, tmp_path):
    """The five files, in each way in which they may be given."""
    if request.param == "zip":
        members = {name: json.dumps(value) for name, value in FILES.items()}
        packed = zipped(**members, **{"train_label.txt": "1\n2\n3\n4"})
        return (write(tmp_path / "train_allmetadata_json.zip", packed),)
    folder = tmp_path / "train_allmetadata_json"
    pack = gzip.compress if request.param == "gz" else bytes
    end = ".gz" if request.param == "gz" else ""
    written = [
        write(folder / (name + end), pack(json.dumps(value).encode()))
        for name, value in FILES.items()
    ]
    return (folder,) if request.param == "folder" else tuple(written)


def test_all_metadata_files_are_joined_by_uid_and_pid(catalogue, paths, metadata):
    report = ingest(catalogue, in_folder(paths, metadata=metadata), **BASE)
    kinds = ["additional_information", "category", "temporalspatial_information"]
    assert sorted(report.metadata) == [*kinds, "text", "user_data"]
    assert {(f.read, f.joined, f.rejected) for f in report.metadata.values()} == {(4, 4, 0)}
    assert rows(catalogue, "title, tags, posted_at")[1] == (
        "T1",
        "x y",
        "2015-03-01 00:00:01.000000",
    )
    data = {
        (photo, kind): json.loads(text)
        for photo, kind, text in rows(
            catalogue,
            "source_key, kind, data",
            "metadata JOIN photos ON photos.id = photo_id",
        )
    }
    assert data[PATHS[0], "text"] == {"Mediatype": "photo"}
    assert data[PATHS[0], "additional_information"] == {"Ispublic": 1, "Mediastatus": "ready"}
    assert data[PATHS[0], "temporalspatial_information"] == {"Latitude": "0", "Geoaccuracy": 0}
    assert data[PATHS[0], "user_data"] == {"ispro": "1", "user_description": "0.1,0.2"}
    assert data[PATHS[2], "user_data"] == {"ispro": "0", "user_description": "ab"}
    assert data[PATHS[3], "user_data"] == {"user_description": "?"}
    again = ingest(catalogue, in_folder(paths, metadata=metadata), **BASE)
    assert (again.new, again.updated, again.noted) == (0, 0, 0)


def test_metadata_about_others_is_counted_and_about_nobody_is_refused(catalogue, paths, tmp_path):
    others = [{**row, "Pid": "9" + str(row["Pid"])} for row in TEXT]
    mixed = [*TEXT[:2], *others, {"Title": "whose?"}, "no object"]
    path = write(tmp_path / "train_text.json", json.dumps(mixed))
    report = ingest(catalogue, in_folder(paths, metadata=(path,)), **BASE)
    assert report.metadata["text"].joined == 2
    assert report.metadata["text"].rejected == 6
    assert report.reasons == {"not_joined": 5, "bad_row": 1}
    wipe(catalogue)
    write(path, json.dumps(others))
    with pytest.raises(BadInput, match="none of its 4 rows is about a photo of the list"):
        ingest(catalogue, in_folder(paths, metadata=(path,)), **BASE)
    assert rows(catalogue) == []


def test_uids_become_owners_where_nobody_else_knows_them(catalogue, tmp_path):
    links = write(tmp_path / "list", "385070020\n385070021\n")
    said = [{"Uid": "1@N00", "Pid": "385070020.0"}, {"Uid": "2@N00", "Pid": 385070021.0}]
    path = write(tmp_path / "train_user.json", json.dumps(said))
    ingest(catalogue, Source(links, metadata=(path,)), **BASE)
    assert rows(catalogue, "owner") == [("1@N00",), ("2@N00",)]


def test_hostile_values_deep_inside_are_cleaned(catalogue, tmp_path):
    links = write(tmp_path / "list", "385070020\n")
    said = [{"Pid": 385070020, "x": ["\ud83d", {"y\0": ["a\0b", float("nan"), 1e400]}]}]
    path = write(tmp_path / "train_more.json", json.dumps(said))
    assert ingest(catalogue, Source(links, metadata=(path,)), **BASE).noted == 1
    assert [json.loads(data) for (data,) in rows(catalogue, "data", "metadata")] == [
        {"x": ["?", {"y": ["ab", None, None]}]}
    ]


def test_a_zip_without_metadata_is_refused_and_not_passed_over(catalogue, paths, tmp_path):
    packed = write(tmp_path / "m.zip", zipped(**{"a.csv": "pid\n1\n", "b.csv": "pid\n1\n"}))
    with pytest.raises(BadInput, match=r"none of them is \.json"):
        ingest(catalogue, in_folder(paths, metadata=(packed,)), **BASE)


def test_two_files_about_the_same_thing_are_refused(catalogue, paths, tmp_path):
    given = tuple(
        write(tmp_path / name, json.dumps(TEXT)) for name in ("train_text.json", "test_text.json")
    )
    with pytest.raises(BadInput, match="both about 'text'"):
        ingest(catalogue, in_folder(paths, metadata=given), **BASE)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(sorted(FILES)), share=st.floats(0, 0.999))
def test_a_metadata_file_cut_anywhere_imports_nothing(empty, tmp_path_factory, name, share):
    folder = tmp_path_factory.mktemp("cut")
    links = write(folder / "list", "\n".join(f"{385070020 + n}" for n in range(4)))
    text = json.dumps(FILES[name])
    path = write(folder / name, text[: int(len(text) * share)])
    wipe(empty)
    with pytest.raises(BadInput):
        ingest(empty, Source(links, metadata=(path,)), **BASE)
    assert rows(empty) == []


# TPIC: the photos and their scores in two tables, joined by made-up ids.

TPIC = "pid\tuid\turl\n9624\t25@N92\t{}\n665085\t275@N38\t{}\n7\t275@N38\t{}\n".format(*PAGES)
LOGVIEW = "pid\tuid\tlogview\n7\t275@N38\t7.5\n665085\t275@N38\t6,5\n9624\t25@N92\t5.5\n"


def test_tpic_tables_are_joined_in_any_order(catalogue, tmp_path):
    links = write(tmp_path / "PHOTO_URL.txt", TPIC)
    labels = write(tmp_path / "LABEL.txt", LOGVIEW)
    source = Source(links, labels, url_col="url", label_col="logview")
    assert ingest(catalogue, source, **BASE).new == 3
    assert rows(catalogue) == [(385070020, 5.5), (385070021, 6.5), (385070022, 7.5)]
    assert rows(catalogue, "owner")[0] == ("10000@N00",)  # the link knows better than the uid


def test_tpic_scores_that_join_nothing_or_are_none_are_counted(catalogue, tmp_path):
    links = write(tmp_path / "PHOTO_URL.txt", TPIC)
    bad = LOGVIEW + "8\t275@N38\t1\n7\t275@N38\t9.5\n5\t1@N1\tnan\n"
    source = Source(links, write(tmp_path / "l", bad), url_col="url", label_col="logview")
    report = ingest(catalogue, source, **BASE)
    assert report.reasons == {"not_joined": 1, "conflicting_label": 2, "bad_label": 1}
    assert report.unlabelled == 1
    other = Source(links, tmp_path / "l", url_col="url", label_col="views")
    with pytest.raises(BadInput, match="has no column 'views'"):
        ingest(catalogue, other, **BASE)


def test_a_dry_run_counts_and_changes_nothing(catalogue, paths, tmp_path):
    path = write(tmp_path / "train_text.json", json.dumps(TEXT))
    source = in_folder(paths, metadata=(path,))
    report = ingest(catalogue, source, dry_run=True, **BASE)
    assert (report.new, report.noted) == (4, 4)
    assert rows(catalogue) == []
    assert rows(catalogue, "*", "metadata") == []
    assert ingest(catalogue, source, **BASE).new == 4
    assert ingest(catalogue, source, dry_run=True, **BASE).unchanged == 4


one_row = st.tuples(
    st.sampled_from([*PAGES, *[page.replace("www", "m") + "/" for page in PAGES], "x", "38507002"]),
    st.sampled_from(["1", "1.0", "1,0", "2.5", "nan", "1e99", ""]),
    st.sampled_from(["", "a title", '"; --', "другой"]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(listed=st.lists(one_row, min_size=1, max_size=8), seed=st.integers(0, 99))
def test_a_list_imported_twice_or_in_another_order_makes_the_same_catalogue(
    empty, tmp_path_factory, listed, seed
):
    folder = tmp_path_factory.mktemp("orders")
    shuffled = listed[:]
    random.Random(seed).shuffle(shuffled)
    found = []
    for number, order in enumerate((listed, shuffled)):
        lines = [json.dumps(dict(zip(("url", "y", "title"), row, strict=True))) for row in order]
        path = write(folder / f"{number}.jsonl", "\n".join(lines))
        source = Source(path, url_col="url", label_col="y")
        wipe(empty)
        try:
            first = ingest(empty, source, **BASE)
        except BadInput:
            found.append(None)
            continue
        assert first.read == len(listed)
        assert first.read == first.new + first.updated + first.unchanged + first.rejected
        found.append((first.reasons, sorted(rows(empty, "flickr_id, label, title, owner"))))
        before = rows(empty, "*")
        again = ingest(empty, source, **BASE)
        assert (again.new, again.updated) == (0, 0)
        assert rows(empty, "*") == before
    assert found[0] == found[1]
