"""What a hub or its network can do wrong, with the oldest and the installed huggingface_hub."""

import json

import pytest

from support.hub import COMMIT, CONNECTOR, status

BY_HAND = f"hf download QQGYLab/ELLA {CONNECTOR} --local-dir"


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
    error = fetch()["error"]
    assert f"HTTP {code}" in error
    assert words in error
    assert BY_HAND in error


def test_a_hub_that_is_down(hub, fetch):
    hub.status = 500
    assert "HTTP 500" in fetch()["error"]


def test_a_hub_that_is_not_there(fetch_with):
    error = fetch_with(HF_ENDPOINT="http://127.0.0.1:9")["error"]
    assert "the connection to http://127.0.0.1:9 failed" in error
    assert "set HF_ENDPOINT to a mirror" in error
    assert BY_HAND in error


def test_a_name_that_does_not_resolve(fetch_with):
    error = fetch_with(HF_ENDPOINT="http://hub.invalid")["error"]
    assert "the connection to http://hub.invalid failed" in error


def test_offline_by_the_users_own_wish(hub, fetch_with):
    assert "HF_HUB_OFFLINE" in fetch_with(HF_HUB_OFFLINE="1")["error"]
    assert hub.requests == []


def test_another_service_at_the_hubs_address(hub, fetch):
    hub.api = b"<html>Please log in to the hotel's network</html>"
    assert "does not answer like the Hugging Face hub" in fetch()["error"]


def test_a_mirror_without_checksums(hub, fetch):
    bare = {"id": "a/b", "sha": COMMIT, "siblings": [{"rfilename": CONNECTOR}]}
    hub.api = json.dumps(bare).encode()
    assert "gives no checksum for" in fetch()["error"]


def test_a_repository_without_the_file(hub, fetch):
    del hub.files[CONNECTOR]
    assert f"holds no {CONNECTOR}" in fetch()["error"]
