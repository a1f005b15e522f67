"""Faults of a hub or its network, with the oldest and the installed huggingface_hub."""

import json
import socket
import time

import pytest

from support.fetcher import Fetcher
from support.hub import CONNECTOR, PINNED, status

BY_HAND = f"hf download QQGYLab/ELLA {CONNECTOR} --revision {PINNED} --local-dir"


@pytest.mark.parametrize(
    ("code", "words"),
    [(401, "set HF_TOKEN"), (403, "set HF_TOKEN"), (404, "Check HF_ENDPOINT"), (410, "later")],
)
@pytest.mark.parametrize("where", ["api", "file"])
def test_a_refusal_says_what_to_do(hub, fetch, code, words, where):
    if where == "api":
        hub.status = code
    else:
        hub.fault = status(code)
    result = fetch()
    assert f"HTTP {code}" in result["error"]
    assert words in result["error"]
    assert BY_HAND in result["error"]
    assert result["unreached"] is None


def test_a_hub_that_is_down(hub, fetch):
    hub.status = 500
    result = fetch()
    assert "HTTP 500" in result["error"]
    assert result["unreached"] is None


def test_a_hub_that_is_not_there(fetch_with):
    result = fetch_with(HF_ENDPOINT="http://127.0.0.1:9")
    assert result["unreached"].startswith("the connection to http://127.0.0.1:9 failed (")
    assert f"{result['unreached']}. Check it and try again" in result["error"]
    assert "set HF_ENDPOINT to a mirror" in result["error"]
    assert BY_HAND in result["error"]


def test_a_name_that_does_not_resolve(fetch_with):
    result = fetch_with(HF_ENDPOINT="http://hub.invalid")
    assert result["unreached"].startswith("the connection to http://hub.invalid failed (")


def test_a_hub_that_does_not_answer(environment, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"http://127.0.0.1:{mute.getsockname()[1]}"
        variables = {"HF_ENDPOINT": address, "HF_HUB_ETAG_TIMEOUT": "1"}
        with Fetcher(tmp_path, {**environment, **variables}) as fetch:
            start = time.monotonic()
            assert fetch()["unreached"].startswith(f"the connection to {address} failed (")
            assert time.monotonic() - start < 60  # several tries of a second


def test_offline_by_the_users_own_wish(hub, fetch_with):
    result = fetch_with(HF_HUB_OFFLINE="1")
    assert result["unreached"] == "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
    assert "is set. Unset it and restart ComfyUI" in result["error"]
    assert hub.requests == []


def test_another_service_at_the_hubs_address(hub, fetch):
    hub.api = b"<html>Please log in to the hotel's network</html>"
    result = fetch()
    assert "does not answer like the Hugging Face hub" in result["error"]
    assert result["unreached"] is None


def test_a_mirror_without_checksums(hub, fetch):
    bare = {"id": "a/b", "sha": PINNED, "siblings": [{"rfilename": CONNECTOR}]}
    hub.api = json.dumps(bare).encode()
    assert "gives no checksum for" in fetch()["error"]


def test_a_repository_without_the_file(hub, fetch):
    del hub.files[CONNECTOR]
    assert f"holds no {CONNECTOR}" in fetch()["error"]
