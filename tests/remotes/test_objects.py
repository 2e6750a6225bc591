"""Names of objects become files and folders; what cannot be one is left out, and said."""

from __future__ import annotations

import logging

import pytest

from mirror.errors import UsageError
from mirror.remotes import canonical
from mirror.remotes.base import Kind
from mirror.remotes.objects.keys import Folder, Keys, Object, below, size

MESSAGE = "left out the name"


def stored(key: str, *, folder: bool = False) -> Object:
    return Object(key, 3, 10**18, 1, "generation:1", folder=folder)


def listed(prefix: str, *pages: Keys) -> dict[str, Kind]:
    folder = Folder(prefix, "gs://bucket")
    for page in pages:
        folder.add(page)
    return {entry.name: entry.kind for entry in folder.entries()}


def test_a_folder_is_where_names_go_on_behind_a_slash() -> None:
    page = Keys([stored("a/one"), stored("a/two words")], ["a/b/"], None)
    assert listed("a/", page) == {"one": Kind.FILE, "two words": Kind.FILE, "b": Kind.FOLDER}


def test_markers_of_folders_are_no_files() -> None:
    """The folder's own, one of a folder in it, and one that its metadata tells."""
    page = Keys([stored("a/"), stored("a/b/"), stored("a/c", folder=True)], [], None)
    assert listed("a/", page) == {"b": Kind.FOLDER, "c": Kind.FOLDER}
    flat = Keys([*page.objects, stored("a/b/"), stored("a/b/e/"), stored("a/d")], [], None)
    assert [(path, entry.kind) for path, entry in below(flat, "a/", "a/", "gs://bucket")] == [
        ("b", Kind.FOLDER),
        ("c", Kind.FOLDER),
        ("b", Kind.FOLDER),
        ("b/e", Kind.FOLDER),
        ("d", Kind.FILE),
    ]
    assert [path for path, _ in below(flat, "", "a/b/", "gs://bucket")] == ["a", "a/c", "a/b/e", "a/d"]


def test_a_folder_with_nothing_but_its_marker_is_there() -> None:
    folder = Folder("a/", "gs://bucket")
    assert not folder.there
    folder.add(Keys([stored("a/")], [], None))
    assert folder.there
    assert folder.entries() == []


def test_a_folder_is_shown_where_an_object_has_its_name(caplog: pytest.LogCaptureFixture) -> None:
    """Also when it shows pages later."""
    assert listed("", Keys([stored("a")], [], "more"), Keys([], ["a/"], None)) == {"a": Kind.FOLDER}
    assert "there is a folder of that name" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("bad", ["a//", "a/../", "a/./", "a/" + "x" * 256 + "/", "b/"])
def test_names_that_cannot_be_are_left_out_and_said(bad: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert listed("a/", Keys([stored("a/good")], [bad], None)) == {"good": Kind.FILE}
        assert MESSAGE in caplog.text
        caplog.clear()
        page = Keys([stored("a/good"), stored(f"{bad}file")], [], None)
        assert [path for path, _ in below(page, "a/", "a/", "gs://bucket")] == ["good"]
        assert MESSAGE in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    ("stated", "expected"), [("0", 0), (7, 7), ("-1", None), ("1e3", None), (None, None), (2**63, None)]
)
def test_a_size_is_one_that_a_file_can_have(stated: object, expected: int | None) -> None:
    assert size(stated) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("gs://bucket", "gs://bucket/"),
        ("GS://bucket/", "gs://bucket/"),
        ("gs://bucket/a/b", "gs://bucket/a/b"),
        ("gs://bucket//a%20b/%7e/", "gs://bucket/a%20b/~/"),
        ("gs://my.bucket_1/%C3%BC", "gs://my.bucket_1/%C3%BC"),
        ("az://account/container", "az://account/container/"),
        ("az://account/$web/index.html", "az://account/$web/index.html"),
        ("az://account/one-two/a/?anonymous", "az://account/one-two/a/?anonymous=true"),
        (
            "az://devstoreaccount1/c-1/?endpoint=HTTP://LocalHost:10000/devstoreaccount1/",
            "az://devstoreaccount1/c-1/?endpoint=http%3A%2F%2Flocalhost%3A10000%2Fdevstoreaccount1",
        ),
    ],
)
def test_a_source_has_one_spelling(source: str, expected: str) -> None:
    assert canonical(source) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("gs://", "there is no bucket"),
        ("gs:bucket", "write gs://BUCKET"),
        ("gs://B", "cannot be the name of the bucket"),
        ("gs://bucket/a b", "%20"),
        ("gs://bucket/#a", "%23"),
        ("gs://bucket/../a", "cannot be used"),
        ("gs://s3cret@bucket/", "holds no keys"),
        ("gs://bucket/?token=s3cret", "no option"),
        ("gs://bucket/?endpoint=http://u:s3cret@host", "no part of it"),
        ("az://account", "there is no container"),
        ("az://account/", "there is no container"),
        ("az://acc-ount/container", "cannot be the name of the account"),
        ("az://account/Con", "cannot be the name of the container"),
        ("az://account/a--b", "cannot be the name of the container"),
        ("az://account/container?sas-token=s3cret", "is a secret"),
        ("az://account/container?account-key=s3cret", "is a secret"),
    ],
)
def test_what_cannot_be_a_source_is_said_in_a_line(source: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        canonical(source)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
