import hashlib
import os
import threading
from pathlib import Path

import pytest

from sd4match_lib.errors import UserError
from sd4match_lib.utils import files
from sd4match_lib.utils.files import (
    atomic_write_bytes,
    atomic_write_text,
    scratch_folder,
    sha256_file,
    sha256_text,
    write_json,
)
from sd4match_lib.utils.paths import package_path, project_root, resolve_path
from sd4match_lib.utils.reading import read_json


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    path = tmp_path / "result.txt"
    atomic_write_text(path, "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        atomic_write_text(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["result.txt"]


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "result.bin"
    contents = [bytes([value]) * 200_000 for value in (0, 1)]
    atomic_write_bytes(path, contents[0])
    seen = set()
    done = threading.Event()

    def read():
        while not done.is_set():
            seen.add(sha256_file(path))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(30):
        atomic_write_bytes(path, contents[turn % 2])
    done.set()
    reader.join()
    assert seen <= {hashlib.sha256(content).hexdigest() for content in contents}


def test_written_files_are_readable_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        atomic_write_text(tmp_path / "deep" / "file.txt", "ö")
    finally:
        os.umask(before)
    assert (tmp_path / "deep" / "file.txt").stat().st_mode & 0o777 == 0o644
    assert sha256_file(tmp_path / "deep" / "file.txt") == sha256_text("ö")


def test_a_scratch_folder_goes_with_its_process_or_with_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(files, "_SWEPT", set())
    gone = 2**22 + 1  # a process number that no Linux gives
    dead, alive = (tmp_path / f".sd4match-{files._host()}-{number}-x.tmp" for number in (gone, os.getppid()))
    elsewhere = tmp_path / f".sd4match-00000000-{gone}-x.tmp"
    for folder in (dead, alive, elsewhere):
        atomic_write_text(folder / "deep" / "file.txt", "x")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file.txt").touch()
    dead.with_name(f"{dead.stem}y.tmp").symlink_to(kept)
    first, second = scratch_folder(), scratch_folder()
    own = {Path(first.name), Path(second.name)}
    assert set(tmp_path.iterdir()) == {alive, elsewhere, kept, *own} and list(kept.iterdir())
    first.cleanup()
    second.cleanup()
    assert not own & set(tmp_path.iterdir())


def test_json_is_sorted_and_reads_back(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, None], "a": "é"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8").startswith('{\n  "a": "é"')
    assert read_json(tmp_path / "a.json") == {"b": [1, None], "a": "é"}


@pytest.mark.parametrize("content", [b'{"a": ', b"\xff\xfe"])
def test_broken_json_is_named(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json: this is not valid JSON"):
        read_json(tmp_path / "run.json")
    with pytest.raises(UserError, match=r"gone\.json: there is no such file"):
        read_json(tmp_path / "gone.json")


def test_the_root_is_the_same_from_notebooks_and_from_elsewhere(project, tmp_path, monkeypatch):
    for folder in (project, project / "sd4match_lib" / "data", tmp_path):
        monkeypatch.chdir(folder)
        assert project_root() == project


def test_paths_of_a_profile_resolve(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SD4MATCH_DATA", raising=False)
    assert resolve_path("data/SPair-71k") == project / "data" / "SPair-71k"
    assert resolve_path("package:config/mini.toml") == package_path("config/mini.toml")
    assert resolve_path(tmp_path / "x") == tmp_path / "x"
    monkeypatch.setenv("SD4MATCH_DATA", str(tmp_path / "elsewhere"))
    assert resolve_path("data/SPair-71k") == tmp_path / "elsewhere" / "SPair-71k"
    assert resolve_path("results/mini") == project / "results" / "mini"
