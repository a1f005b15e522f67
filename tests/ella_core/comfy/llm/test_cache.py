"""The cache of encoded prompts against damage, other processes and full disks."""

import dataclasses
import logging
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ella_core.config import LLMIdentity
from ella_core.text_encoders import EncodedPrompt
from tiny_models import import_host

import_host()

from ella_core.comfy.llm.cache import FeatureCache, cache_key


def prompt(seed=0, dtype=torch.float32, tokens=5):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(1, tokens, 8, generator=generator).to(dtype)
    return EncodedPrompt(features, LLMIdentity("t5", 24), tokens=tokens, windows=2, dropped=3)


def same(a, b):
    counts = [
        [getattr(p, f.name) for f in dataclasses.fields(p) if f.name != "features"] for p in (a, b)
    ]
    return (
        counts[0] == counts[1]
        and a.features.dtype == b.features.dtype
        and torch.equal(a.features, b.features)
    )


def entry(cache, key="key"):
    return cache.folder / f"{key}.safetensors"


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "user/__ella/features")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_was_put_is_got(cache, dtype):
    wide = dataclasses.replace(prompt(dtype=dtype), features=prompt(1, dtype).features[:, ::2])
    for key, value in (("a", prompt(dtype=dtype)), ("b", wide)):
        assert cache.get(key) is None
        cache.put(key, value)
        assert same(cache.get(key), value)
    assert same(FeatureCache(cache.folder).get("a"), prompt(dtype=dtype))


def test_the_mask_of_a_padded_prompt_is_kept(cache):
    mask = torch.tensor([[False, True, True]])
    cache.put("a", dataclasses.replace(prompt(tokens=3), mask=mask))
    assert torch.equal(cache.get("a").mask, mask)


def test_the_key_tells_all_its_parts_apart():
    parts = ["identity", "torch.float16", None, (0,), "a text"]
    others = [
        ["identities", *parts[1:]],
        [parts[0], "torch.float32", *parts[2:]],
        [*parts[:2], "int8", *parts[3:]],
        [*parts[:3], (128,), parts[4]],
        [*parts[:4], "a text "],
        [*parts[:4], "a t\ud800ext"],  # half a character, which JSON may bring
    ]
    assert len({cache_key(*p) for p in [parts, *others]}) == 7
    assert cache_key(*parts) == cache_key(*parts)


damages = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1, exclude_max=True)),
    st.tuples(st.just("flip"), st.lists(st.tuples(st.floats(0, 1, exclude_max=True),
                                                  st.integers(0, 7)), min_size=1, max_size=4)),
    st.tuples(st.just("replace"), st.binary(max_size=400)),
    st.tuples(st.just("append"), st.binary(min_size=1, max_size=40)),
)  # fmt: skip


def damage(data, kind, how):
    if kind == "cut":
        return data[: int(how * len(data))]
    if kind == "flip":
        flipped = bytearray(data)
        for place, bit in how:
            flipped[int(place * len(data))] ^= 1 << bit
        return bytes(flipped)
    return how if kind == "replace" else data + how


@settings(max_examples=500)
@given(damages)
def test_damage_never_gives_wrong_features_nor_an_exception(how):
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder))
        cache.put("key", prompt())
        file = entry(cache)
        file.write_bytes(damage(file.read_bytes(), *how))
        found = cache.get("key")
        assert found is None or same(found, prompt())
        cache.put("key", prompt())
        assert same(cache.get("key"), prompt())


def test_every_bit_of_an_entry(cache):
    """The header's too: a count or a dtype that is off by one bit is noticed."""
    cache.put("key", prompt(tokens=1))
    good, wrong = entry(cache).read_bytes(), []
    logging.getLogger("ella").setLevel(logging.ERROR)
    for place in range(len(good) * 8):
        entry(cache).write_bytes(damage(good, "flip", [(place // 8 / len(good), place % 8)]))
        found = cache.get("key")
        if found is not None and not same(found, prompt(tokens=1)):
            wrong.append(place)
    logging.getLogger("ella").setLevel(logging.NOTSET)
    assert wrong == []


def test_a_damaged_entry_is_reported(cache, caplog):
    cache.put("key", prompt())
    entry(cache).write_bytes(entry(cache).read_bytes()[:-1])
    assert cache.get("key") is None
    assert str(entry(cache)) in caplog.text


def test_an_entry_of_another_prompt_or_kind_is_a_miss(cache):
    cache.put("key", prompt())
    entry(cache).rename(entry(cache, "other"))
    assert cache.get("other") is None
    cache.put("key", prompt())
    with safe_open(entry(cache), framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(entry(cache)), entry(cache), {**metadata, "a field of tomorrow": "1"})
    assert cache.get("key") is None


def size_of_an_entry(cache):
    cache.put("key", prompt())
    size = entry(cache).stat().st_size
    cache.clear()
    return size


def test_the_least_recently_used_go_first(cache):
    small = FeatureCache(cache.folder, limit=3 * size_of_an_entry(cache))
    for use in [lambda: small.put("a", prompt(1)), lambda: small.put("b", prompt(2)),
                lambda: small.put("c", prompt(3)), lambda: small.get("a"),
                lambda: small.put("d", prompt(4))]:  # fmt: skip
        use()
        time.sleep(0.03)  # file systems tell times some milliseconds apart
    assert [key for key in "abcd" if small.get(key) is not None] == ["a", "c", "d"]


def test_an_entry_beyond_the_limit_is_not_kept_and_throws_nothing_out(cache):
    small = FeatureCache(cache.folder, limit=2 * size_of_an_entry(cache))
    small.put("a", prompt())
    small.put("large", prompt(tokens=200))
    assert small.get("large") is None
    assert small.get("a") is not None


def test_what_interrupted_writes_left_is_swept(cache):
    cache.put("a", prompt())
    old, young = (cache.folder / f"{name}.tmp" for name in ("old", "young"))
    for file in (old, young):
        file.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    cache.put("b", prompt())
    assert sorted(f.name for f in cache.folder.glob("*.tmp")) == ["young.tmp"]


def test_clear(cache):
    assert cache.clear() == (0, 0)
    size = size_of_an_entry(cache)
    for key in "abc":
        cache.put(key, prompt())
    assert cache.clear() == (3, 3 * size)
    assert list(cache.folder.iterdir()) == []
    assert cache.get("a") is None


def test_the_folder_is_deleted_while_running(cache):
    cache.put("a", prompt())
    shutil.rmtree(cache.folder)
    assert cache.get("a") is None
    assert cache.clear() == (0, 0)
    cache.put("a", prompt())
    assert same(cache.get("a"), prompt())


def warnings_of(caplog, cache):
    return [r for r in caplog.messages if "can't be kept" in r and str(cache.folder) in r]


@pytest.mark.parametrize("blocked", ["user", "user/__ella/features"])
def test_a_folder_that_can_not_be_made_is_warned_about_once(tmp_path, caplog, blocked):
    (tmp_path / blocked).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / blocked).write_text("a file")
    cache = FeatureCache(tmp_path / "user/__ella/features")
    for _ in range(3):
        cache.put("a", prompt())
        assert cache.get("a") is None
    assert len(warnings_of(caplog, cache)) == 1
    assert cache.clear() == (0, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
def test_a_write_that_fails_half_way_leaves_nothing(cache, caplog):
    import resource

    cache.put("a", prompt())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        for key in "bc":
            cache.put(key, prompt(tokens=200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert cache.get("b") is None
    assert same(cache.get("a"), prompt())
    assert [f.name for f in cache.folder.iterdir()] == ["a.safetensors"]
    assert len(warnings_of(caplog, cache)) == 1


def test_several_at_once(cache):
    """Each with a FeatureCache of its own, as processes have; they evict and clear as well."""
    limit = 4 * size_of_an_entry(cache)
    wrong, errors = [], []

    def work(seed):
        mine, draw = FeatureCache(cache.folder, limit), random.Random(seed)
        try:
            for _ in range(150):
                number = draw.randrange(6)
                if draw.random() < 0.02:
                    mine.clear()
                elif draw.random() < 0.5:
                    mine.put(str(number), prompt(number))
                else:
                    found = mine.get(str(number))
                    if found is not None and not same(found, prompt(number)):
                        wrong.append(number)
        except Exception as error:  # a thread's exception would be lost
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (wrong, errors) == ([], [])
    cache.put("last", prompt())
    assert sum(f.stat().st_size for f in cache.folder.iterdir()) <= limit + limit // 4
    assert not list(cache.folder.glob("*.tmp"))
