"""Downloads from a hub on this machine, with the oldest and the installed huggingface_hub."""

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bootstrap import ROOT
from support.fetcher import Fetcher
from support.hub import (
    CHUNK,
    CONNECTOR,
    CONTENT,
    PINNED,
    T5_FOLDER,
    TOKEN,
    break_off_once,
    ignore_ranges,
    part_of,
    stall_after,
)
from support.wait import wait_until

BROKEN_AT = CHUNK + CHUNK // 2  # one chunk of it is written


def test_the_oldest_is_the_oldest(environment, request):
    python = [sys.executable, "-c", "import huggingface_hub as h; print(h.__version__)"]
    out = subprocess.run(python, env=environment, check=True, capture_output=True, text=True)
    assert (out.stdout.strip() == "0.36.0") == request.node.name.endswith("[oldest]")


def test_a_file_comes_whole_and_from_the_commit(hub, fetch, tmp_path):
    result = fetch()
    assert result["lines"] == [f"{tmp_path / CONNECTOR}: downloaded 21 MB"]
    assert (tmp_path / CONNECTOR).read_bytes() == CONTENT
    assert {path.name for path in tmp_path.iterdir()} - {".ella-download.lock"} == {CONNECTOR}
    downloading = [step[1:] for step in result["steps"] if step[0].startswith("downloading")]
    assert downloading == [[n, len(CONTENT)] for n in (0, CHUNK, 2 * CHUNK, len(CONTENT))]
    asked = [(path, h.get("authorization")) for path, h in hub.requests if "ELLA" in path]
    asked += [(path, h.get("authorization")) for path, h in hub.requests if "cdn" in path]
    bearer = f"Bearer {TOKEN}"
    assert asked == [
        (f"/api/models/QQGYLab/ELLA/revision/{PINNED}", bearer),
        (f"/QQGYLab/ELLA/resolve/{PINNED}/{CONNECTOR}", bearer),
        (f"/cdn/{CONNECTOR}", None),  # another host
    ]


def test_of_a_folder_only_its_own_data_files_come(hub, fetch, tmp_path):
    lines = fetch("LLM")["lines"]
    names = {"config.json", "model.safetensors", "spiece.model"}
    folder = tmp_path / T5_FOLDER
    assert {Path(line.partition(": ")[0]) for line in lines} == {folder / name for name in names}
    assert {path.name for path in folder.iterdir()} - {".ella-download.lock"} == names
    for name in names:
        assert (folder / name).read_bytes() == hub.files[f"{T5_FOLDER}/{name}"]


def test_what_is_there_is_checked_and_not_asked_for(hub, fetch, tmp_path):
    fetch("LLM")
    hub.requests.clear()
    lines = fetch("LLM")["lines"]
    assert [line.partition(": ")[2] for line in lines] == ["was there, with the right checksum"] * 3
    assert not any("resolve" in path for path, _ in hub.requests)


@pytest.mark.parametrize("content", [b"mine", bytes(len(CONTENT))])
def test_another_file_is_never_overwritten(fetch, tmp_path, content):
    (tmp_path / CONNECTOR).write_bytes(content)
    error = fetch()["error"]
    assert f"{tmp_path / CONNECTOR} is there already and is not the file" in error
    assert "delete it and download again" in error
    assert (tmp_path / CONNECTOR).read_bytes() == content


def test_a_small_file_with_other_content_is_never_overwritten(hub, fetch, tmp_path):
    config = tmp_path / T5_FOLDER / "config.json"
    config.parent.mkdir()
    config.write_bytes(hub.files[f"{T5_FOLDER}/config.json"].swapcase())
    assert f"{config} is there already" in fetch("LLM")["error"]
    assert [path.name for path in config.parent.iterdir() if path.name[0] != "."] == ["config.json"]


def test_a_link_to_nowhere_is_not_replaced(fetch, tmp_path):
    (tmp_path / CONNECTOR).symlink_to(tmp_path / "on a disk that is not plugged in")
    assert "is there already" in fetch()["error"]
    assert (tmp_path / CONNECTOR).is_symlink()


def test_a_broken_connection_is_taken_up_again(hub, fetch, tmp_path):
    hub.fault = break_off_once(BROKEN_AT)
    assert "lines" in fetch()
    assert hub.ranges(CONNECTOR) == ["bytes=0-", f"bytes={CHUNK}-"]
    assert (tmp_path / CONNECTOR).read_bytes() == CONTENT


def test_a_killed_download_goes_on_the_next_time(hub, environment, fetch, tmp_path):
    released = threading.Event()
    hub.fault = stall_after(BROKEN_AT, released)
    with Fetcher(tmp_path, environment) as other:
        other.begin()
        wait_until(lambda: any(path.stat().st_size == CHUNK for path in tmp_path.glob("*.part")))
        assert "another ComfyUI is downloading into" in fetch()["error"]
    released.set()
    assert not (tmp_path / CONNECTOR).exists()
    hub.fault = None
    steps = fetch()["steps"]
    assert hub.ranges(CONNECTOR) == ["bytes=0-", f"bytes={CHUNK}-"]
    assert (tmp_path / CONNECTOR).read_bytes() == CONTENT
    assert [step[1] for step in steps[:2]] == [CHUNK, 2 * CHUNK]


def test_a_part_of_another_version_is_deleted(hub, fetch, tmp_path):
    old = tmp_path / f"{CONNECTOR}.0123456789ab.part"
    others = [tmp_path / name for name in ("another.0123456789ab.part", f"{CONNECTOR}.my.part")]
    for part in (old, *others):
        part.write_bytes(b"of another version")
    assert "lines" in fetch()
    assert hub.ranges(CONNECTOR) == ["bytes=0-"]
    assert (tmp_path / CONNECTOR).read_bytes() == CONTENT
    assert not old.exists()
    assert all(part.exists() for part in others)
    old.write_bytes(b"of another version")
    assert "lines" in fetch()  # also where nothing is left to download
    assert not old.exists()


@pytest.mark.parametrize("surplus", [0, 100])
def test_a_damaged_part_is_found_out(hub, fetch, tmp_path, surplus):
    part = tmp_path / f"{CONNECTOR}.{hashlib.sha256(CONTENT).hexdigest()[:12]}.part"
    part.write_bytes(b"x" * (len(CONTENT) + surplus))
    result = fetch()
    if not surplus:  # longer than the file, it is thrown away at once
        assert "came with the checksum" in result["error"]
        assert not part.exists()
        result = fetch()
    assert "lines" in result
    assert (tmp_path / CONNECTOR).read_bytes() == CONTENT


def test_a_server_without_ranges(hub, fetch, tmp_path):
    part = tmp_path / f"{CONNECTOR}.{hashlib.sha256(CONTENT).hexdigest()[:12]}.part"
    part.write_bytes(CONTENT[:CHUNK])
    hub.fault = ignore_ranges
    result = fetch()
    if "error" in result:  # the oldest huggingface_hub appends the whole file
        assert "more than the" in result["error"]
        result = fetch()
    assert "lines" in result
    assert (tmp_path / CONNECTOR).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_the_file_deleted(hub, fetch, tmp_path):
    hub.checksums[CONNECTOR] = "0" * 64
    error = fetch()["error"]
    assert f"came with the checksum {hashlib.sha256(CONTENT).hexdigest()}" in error
    assert [
        path.name for path in tmp_path.iterdir() if path.is_file() and path.name[0] != "."
    ] == []


@pytest.mark.parametrize("lie", [1, -1, CHUNK])
def test_a_wrong_length_is_refused(hub, fetch, tmp_path, lie):
    hub.sizes[CONNECTOR] = len(CONTENT) + lie
    error = fetch()["error"]
    assert error.startswith("Can't download the ELLA connector: ")
    assert ("more than the" if lie < 0 else "HTTP 416") in error
    assert not (tmp_path / CONNECTOR).exists()


def test_a_file_larger_than_the_disk_is_not_begun(hub, fetch, tmp_path):
    hub.sizes[CONNECTOR] = 10**17
    error = fetch()["error"]
    assert "1e+08 GB are to be downloaded" in error
    assert hub.ranges(CONNECTOR) == []
    assert list(tmp_path.glob("*.part")) == []


def test_a_folder_that_can_not_be_made(fetch, tmp_path):
    (tmp_path / T5_FOLDER).write_text("a file")
    assert "Correct the folder's rights" in fetch("LLM")["error"]


def test_a_full_disk_is_said_to_be_full(hub, environment, tmp_path):
    script = ROOT / "tests/support/fetch.py"
    limited = f"trap '' XFSZ; ulimit -f {CHUNK // 1024}; exec {sys.executable} {script}"
    with Fetcher(tmp_path, environment, ["bash", "-c", limited]) as fetch:
        error = fetch()["error"]
    assert f"{part_of(tmp_path)} can't be written" in error
    assert part_of(tmp_path).stat().st_size == CHUNK
