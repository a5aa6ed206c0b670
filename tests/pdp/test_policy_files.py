"""A policy folder is read as it is at one moment, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sidecar.pdp import policy_files
from sidecar.pdp.policy_files import Changing, PolicyFault, Snapshot, read_policies, stamp_of, write_files
from tests import configmap

FILES = {"a.yaml": "a: 1", "b.yml": "b: 1"}


def put(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_stamp_sees_what_is_behind_links(tmp_path: Path) -> None:
    assert stamp_of(tmp_path / "nowhere") == frozenset()
    configmap.put(tmp_path, FILES, 1)
    first = stamp_of(tmp_path)
    assert {name for name, *_ in first} == set(FILES)
    assert stamp_of(tmp_path) == first
    configmap.put(tmp_path, FILES, 2)
    assert stamp_of(tmp_path) != first


def test_what_cerbos_reads_is_read_and_nothing_else(tmp_path: Path) -> None:
    names = ("a.yaml", "B.JSON", "sub/c.YmL", "d_test.yaml", "testdata/e.yaml", "_schemas/s.json", "_schemas/x/t")
    write_files(tmp_path, {name: b"{}" for name in (*names, ".hidden.yaml", ".git/f.yaml", "README.md")})
    policies = read_policies(tmp_path)
    assert set(policies.files) == set(names)
    assert policies.names == {"a.yaml", "B.JSON", "sub/c.YmL"}


def test_two_versions_differ_in_their_digest_and_one_does_not(tmp_path: Path) -> None:
    digests = {
        read_policies(put(tmp_path / name, **files)).digest
        for name, files in {
            "1": {"a_DOT_yaml": "x", "b_DOT_yaml": ""}, "2": {"a_DOT_yaml": "", "b_DOT_yaml": "x"},
            "3": {"a_DOT_yaml": "x"}, "4": {"ab_DOT_yaml": "x"},
        }.items()
    }  # fmt: skip
    assert len(digests) == 4
    assert read_policies(put(tmp_path / "5", a_DOT_yaml="x")).digest in digests


@pytest.mark.parametrize("changes", [1, 2, 3])
def test_a_folder_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    put(tmp_path, a_DOT_yaml="old", b_DOT_yaml="old")
    read, left = Path.read_bytes, [changes]

    def changing(path: Path) -> bytes:
        content = read(path)
        if path.name == "a.yaml" and left[0]:
            # both files change when the first of them has been read
            left[0] -= 1
            put(tmp_path, a_DOT_yaml="new" * (5 - left[0]), b_DOT_yaml="new" * (5 - left[0]))
        return content

    monkeypatch.setattr(Path, "read_bytes", changing)
    if changes == policy_files.TRIES:
        with pytest.raises(Changing):
            read_policies(tmp_path)
    else:
        assert len(set(read_policies(tmp_path).files.values())) == 1


def test_a_link_that_is_about_to_be_taken_away_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubelet takes the links of removed files away after the swap."""
    configmap.put(tmp_path, FILES, 1)
    stale = tmp_path / "old.yaml"
    stale.symlink_to("..data/old.yaml")
    monkeypatch.setattr("time.sleep", lambda _: stale.unlink(missing_ok=True))
    assert set(read_policies(tmp_path).files) == set(FILES)


@pytest.mark.parametrize(
    ("name", "target", "fault"),
    [
        ("x.yaml", "nowhere", "/x.yaml: a link to nothing"),
        ("x", "nowhere", "/x: a link to nothing"),
        ("x", ".", "/x: a link to a folder that holds it"),
        ("sub/x", "..", "/sub/x: a link to a folder that holds it"),
    ],
)
def test_a_link_that_cannot_be_read_is_refused(tmp_path: Path, name: str, target: str, fault: str) -> None:
    put(tmp_path, a_DOT_yaml="x", sub__b_DOT_yaml="x")
    (tmp_path / name).symlink_to(target)
    with pytest.raises(PolicyFault) as caught:
        read_policies(tmp_path)
    assert str(caught.value) == f"{tmp_path}{fault}"


def test_a_folder_behind_a_link_is_read_or_refused(tmp_path: Path) -> None:
    put(tmp_path / "other", c_DOT_yaml="x")
    put(tmp_path / "policies", a_DOT_yaml="x")
    (tmp_path / "policies/sub").symlink_to("../other")
    assert set(read_policies(tmp_path / "policies").files) == {"a.yaml", "sub/c.yaml"}
    with pytest.raises(PolicyFault, match="which Cerbos does not read"):
        read_policies(tmp_path / "policies", follow=False)


@pytest.mark.parametrize(
    "files", [{}, {"a_test_DOT_yaml": "x"}, {"_schemas__a_DOT_json": "{}"}, {"testdata__a_DOT_yaml": ""}]
)
def test_a_folder_without_a_policy_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(PolicyFault, match="found no policy"):
        read_policies(put(tmp_path, **files))


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ('{"type": ', "1:10"),
        ('{\n "a": nope}', "2:7"),
        ("", "1:1"),
        ("[" * 100_000, "1:1"),
        ('{"maximum": NaN}', "1:1"),
        ('{"minimum": -Infinity}', "1:1"),
    ],
)
def test_a_schema_that_is_no_json_is_refused(tmp_path: Path, schema: str, place: str) -> None:
    with pytest.raises(PolicyFault) as caught:
        read_policies(put(tmp_path, a_DOT_yaml="x", _schemas__s_DOT_json=schema))
    assert str(caught.value).startswith(f"{tmp_path}/_schemas/s.json:{place}: no JSON")


def test_a_schema_may_have_any_number_of_json(tmp_path: Path) -> None:
    schema = f'{{"maximum": {"9" * 5000}, "minimum": -1e999}}'
    files = read_policies(put(tmp_path, a_DOT_yaml="x", _schemas__s_DOT_json=schema)).files
    assert files["_schemas/s.json"].decode() == schema


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    put(tmp_path, a_DOT_yaml="x")
    os.mkfifo(tmp_path / "b.yaml")
    with pytest.raises(PolicyFault, match="found neither a file nor a folder"):
        read_policies(tmp_path)


def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(PolicyFault, match="No such file"):
        read_policies(tmp_path / "nowhere")


def test_a_file_system_that_fails_is_a_fault_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("a")
    (tmp_path / "link").symlink_to(tmp_path / "a.yaml")

    def fail(path: str) -> bool:
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr(os.path, "exists", fail)
    assert stamp_of(tmp_path) == frozenset()
    with pytest.raises(PolicyFault) as caught:
        read_policies(tmp_path)
    assert caught.value.problems == [f"{tmp_path}/link: cannot be read: Input/output error"]


def test_a_snapshot_is_changed_at_once_and_keeps_one_before(tmp_path: Path) -> None:
    source, root = put(tmp_path / "source", a_DOT_yaml="1"), tmp_path / "root"
    root.mkdir()
    snapshot = Snapshot(source, root)
    for text in ("1", "2", "3", "4"):
        policies = read_policies(put(source, a_DOT_yaml=text))
        snapshot.put_in_force(snapshot.write(policies), policies.stamp, policies.digest)
        assert (snapshot.link / "a.yaml").read_text() == text
        assert (snapshot.stamp, snapshot.digest) == (policies.stamp, policies.digest)
    assert len([path for path in root.glob("policies-*") if path.is_dir()]) == 2
    assert len(list(snapshot.link.glob("authorization-sidecar-*.json"))) == 1
