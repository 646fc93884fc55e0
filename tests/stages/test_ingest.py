from __future__ import annotations

import random

import pytest

from popq.catalogue import migrate
from popq.catalogue.db import Catalogue
from popq.errors import BadInput
from popq.stages.ingest import Source, ingest

BASE = {"image_base": "https://live.staticflickr.com", "image_size": "z"}
PAGE = "https://www.flickr.com/photos/58708830@N00/385070026"


@pytest.fixture
def take(catalogue, tmp_path):
    """Import text as a list, with labels if given; gives the report."""

    def call(links, labels=None, *, strict=False, **columns):
        source = tmp_path / "links.txt"
        source.write_bytes(links if isinstance(links, bytes) else links.encode())
        scores = None
        if labels is not None:
            scores = tmp_path / "labels.txt"
            scores.write_text(labels)
        return ingest(catalogue, Source(source, scores, **columns), strict=strict, **BASE)

    return call


def rows(catalogue, columns="flickr_id, label, state"):
    with catalogue.read() as tx:
        query = f"SELECT {columns} FROM photos ORDER BY id"
        return [tuple(row) for row in tx.exec_driver_sql(query)]


def counts(report):
    return report.read, report.new, report.updated, report.unchanged, report.rejected


def test_bare_and_quoted_links_are_taken_with_their_labels_in_order(take, catalogue):
    report = take(f'{PAGE}\n"https://www.flickr.com/photos/7626362@N07/1251837061"\n', "5.5\n7")
    assert counts(report) == (2, 2, 0, 0, 0)
    assert rows(catalogue) == [(385070026, 5.5, "listed"), (1251837061, 7.0, "listed")]


def test_a_static_url_is_resolved_at_once(take, catalogue):
    take("https://live.staticflickr.com/161/385070026_396c358301_w.jpg\n", "3.5")
    assert rows(catalogue, "state, server, secret, image_url") == [
        (
            "resolved",
            "161",
            "396c358301",
            "https://live.staticflickr.com/161/385070026_396c358301_z.jpg",
        )
    ]


def test_a_static_url_resolves_a_photo_that_was_listed(take, catalogue):
    take(PAGE)
    report = take("https://live.staticflickr.com/161/385070026_396c358301_w.jpg\n")
    assert counts(report) == (1, 0, 1, 0, 0)
    assert rows(catalogue, "state, owner") == [("resolved", "58708830@N00")]


def test_a_second_import_changes_nothing_and_says_so(take, catalogue):
    take(PAGE, "5.5")
    before = rows(catalogue, "*")
    assert counts(take(PAGE, "5.5")) == (1, 0, 0, 1, 0)
    assert rows(catalogue, "*") == before


def test_a_changed_label_is_an_update(take, catalogue):
    take(PAGE, "5.5")
    assert counts(take(PAGE, "6.5")) == (1, 0, 1, 0, 0)
    assert rows(catalogue) == [(385070026, 6.5, "listed")]


def test_a_list_without_labels_keeps_those_that_are_there(take, catalogue):
    take(PAGE, "5.5")
    assert counts(take(PAGE)) == (1, 0, 0, 1, 0)
    assert rows(catalogue) == [(385070026, 5.5, "listed")]


@pytest.mark.parametrize(
    ("text", "label", "reason"),
    [
        ("https://www.flickr.com/photos/x/sets/72157600000000000", "1", "album"),
        ("https://www.flickr.com/photos/x", "1", "user"),
        ("https://example.org/1.jpg", "1", "not_flickr"),
        ("train/59@N75/775.jpg", "1", "not_flickr"),
        ("   ", "1", "empty"),
        ('"https://www.flickr.com/photos/58708830@N00/3850', "1", "bad_row"),
        ("https://www.flickr.com/photos/x/123456789", "nan", "bad_label"),
        ("https://www.flickr.com/photos/x/123456789", "-inf", "bad_label"),
        ("https://www.flickr.com/photos/x/123456789", "many", "bad_label"),
        ("https://www.flickr.com/photos/x/123456789", "1_000", "bad_label"),
        ("https://www.flickr.com/photos/x/123456789", "1,000,000", "bad_label"),
        ("https://www.flickr.com/photos/x/123456789", "1e300", "bad_label"),
        ("https://www.flickr.com/photos/x/123456789", "", "bad_label"),
    ],
)
def test_a_row_that_is_no_photo_is_rejected_by_line_and_reason(take, text, label, reason):
    report = take(f"{PAGE}\n{text}\n{PAGE}\n", f"5\n{label}\n5\n")
    assert counts(report) == (3, 1, 0, 1, 1)
    assert [(r.line, r.reason) for r in report.rejections] == [(2, reason)]
    assert report.reasons == {reason: 1}


def test_strict_makes_a_rejected_row_an_error_and_imports_nothing(take, catalogue):
    with pytest.raises(BadInput, match=r"1 rows are rejected.*\n.*line 2"):
        take(f"{PAGE}\nhttps://example.org\n", strict=True)
    assert rows(catalogue) == []


def test_two_labels_for_one_photo_refuse_both_lines_whichever_comes_first(take, catalogue):
    other = "http://m.flickr.com/photos/58708830@N00/385070026/"
    fine = "https://www.flickr.com/photos/x/123456789"
    for links, labels in [((PAGE, fine, other), "5\n1\n6"), ((other, fine, PAGE), "6\n1\n5")]:
        report = take("\n".join(links), labels)
        assert [(r.line, r.reason) for r in report.rejections] == [
            (1, "conflicting_label"),
            (3, "conflicting_label"),
        ]
        assert rows(catalogue) == [(123456789, 1.0, "listed")]


def test_one_photo_under_several_shapes_is_one_photo(take, catalogue):
    shapes = [PAGE, PAGE + "/in/photostream/", "385070026", f'"{PAGE}/"', PAGE.replace("www", "m")]
    report = take("\n".join(shapes), "\n".join(["2.5"] * len(shapes)))
    assert counts(report) == (5, 1, 0, 4, 0)
    assert len(rows(catalogue)) == 1


@pytest.mark.parametrize(("links", "labels"), [(3, 2), (2, 3), (1, 5), (5, 1)])
def test_unequal_counts_import_nothing_and_say_both(take, catalogue, links, labels):
    text = "\n".join(f"https://www.flickr.com/photos/x/12345678{n}" for n in range(links))
    with pytest.raises(BadInput, match=f"has {links} rows and .* has {labels}"):
        take(text, "\n".join("1" for _ in range(labels)))
    assert rows(catalogue) == []


def test_blank_lines_at_the_end_and_a_missing_last_newline_count_for_nothing(take):
    assert counts(take(f"{PAGE}\n\n\n", "5")) == (1, 1, 0, 0, 0)


def test_bom_and_crlf_are_no_part_of_a_row(take, catalogue):
    report = take(b"\xef\xbb\xbf" + f"{PAGE}\r\nhttps://flic.kr/p/2p4QbKN\r\n".encode(), "5\n6")
    assert counts(report) == (2, 2, 0, 0, 0)
    assert [row[0] for row in rows(catalogue)] == [385070026, 53208249252]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_table_is_read_by_its_columns(take, catalogue, delimiter):
    table = "\n".join(
        delimiter.join(row)
        for row in [("pid", "url", "logview"), ("1", PAGE, "5.5"), ("2", "x", "1")]
    )
    report = take(table, url_col="url", label_col="logview")
    assert counts(report) == (2, 1, 0, 0, 1)
    assert rows(catalogue) == [(385070026, 5.5, "listed")]
    assert [r.line for r in report.rejections] == [3]


def test_a_table_without_the_column_names_those_it_has(take):
    with pytest.raises(BadInput, match=r"no column 'link'; its columns are: pid, url"):
        take(f"pid,url\n1,{PAGE}\n", url_col="link")


@pytest.mark.parametrize(
    ("content", "columns", "words"),
    [
        ('{"url": "x"}\n{"URL": "y"}', {"url_col": "link"}, "no row has a field 'link'.*has: url"),
        (f'[{{"url": "{PAGE}"}}]', {"url_col": "url", "label_col": "y"}, "no row has a field 'y'"),
        (f'[{{"url": "{PAGE}"}}]', {}, "is a table: --url-col must name"),
        (f'\ufeff {{ "url": "{PAGE}"}}', {}, "is a table: --url-col must name"),
        (b"PAR1 and so on", {}, "is a table: --url-col must name"),
        (f"url,y\n{PAGE},5\n", {}, "If it is a table, --url-col names"),
    ],
)
def test_a_table_with_another_column_or_none_is_told_in_words(
    take, catalogue, content, columns, words
):
    with pytest.raises(BadInput, match=words):
        take(content, **columns)
    assert rows(catalogue) == []


def test_a_field_that_only_some_objects_have_is_no_wrong_column(take):
    lines = ['{"note": 1}', f'{{"url": "{PAGE}"}}', f'{{"url": "{PAGE}", "y": 5}}']
    report = take("\n".join(lines), url_col="url", label_col="y")
    assert (report.new, report.reasons) == (1, {"bad_label": 1, "empty": 1})


def test_a_row_in_brackets_makes_no_table_of_a_list(take):
    assert take(f"[removed]\n{PAGE}\n{{}}\n").new == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n  \n", "is empty"),
        (bytes(range(256)) * 50, "no text in UTF-8"),
        ("déjà vu\n".encode("latin-1"), "no text in UTF-8"),
        (PAGE.encode("utf-16"), "UTF-16"),
        (b"just\nsome\nwords\n", r"no photo that can be imported \(3 rows read; line 1"),
    ],
)
def test_what_is_no_list_is_refused_in_words(take, catalogue, content, words):
    with pytest.raises(BadInput, match=words):
        take(content)
    assert rows(catalogue) == []


def test_a_table_whose_header_is_no_utf8_is_refused_in_words(take):
    with pytest.raises(BadInput, match="no text in UTF-8"):
        take("url,größe\n".encode("latin-1"), url_col="url")


def test_a_missing_list_and_a_directory_are_refused_in_words(catalogue, tmp_path):
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        ingest(catalogue, Source(tmp_path / "nowhere"), **BASE)
    with pytest.raises(BadInput, match="is a directory"):
        ingest(catalogue, Source(tmp_path), **BASE)


def test_ids_that_may_be_a_data_sets_own_are_counted(take):
    report = take(f"pid,url\n775,{PAGE}\n999999,{PAGE}\n1000000,{PAGE}\n", url_col="pid")
    assert (report.new, report.early) == (3, 2)
    assert take(PAGE).early == 0


def test_columns_and_label_files_do_not_mix(take):
    with pytest.raises(BadInput, match="--label-col must name its column"):
        take(f"url\n{PAGE}\n", "1", url_col="url")
    with pytest.raises(BadInput, match="--url-col must name one"):
        take(PAGE, label_col="score")


def test_any_order_of_the_rows_gives_the_same_photos(take, catalogue, tmp_path):
    rng = random.Random(3)
    lines = [f"https://www.flickr.com/photos/u{n % 7}/{900000 + n % 40}" for n in range(60)]
    shuffled = lines[:]
    rng.shuffle(shuffled)
    take("\n".join(lines))
    other = Catalogue(f"sqlite:///{tmp_path}/other.db")
    migrate.upgrade(other)
    (tmp_path / "shuffled.txt").write_text("\n".join(shuffled))
    ingest(other, Source(tmp_path / "shuffled.txt"), **BASE)
    columns = "flickr_id, label, state"
    assert sorted(rows(catalogue, columns)) == sorted(rows(other, columns))
    other.close()
