"""A full disk: the error says so, what was there stays whole, and the same command goes on.

In place of a full disk a limit on the size of files: writing fails in the same calls.
"""

import os
import sys
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load, load_file

from ella_core.errors import EllaError
from ella_core.training import disk, parts
from ella_core.training.cache import Shard
from ella_core.training.checkpoints import CONNECTOR, Checkpoints
from ella_core.training.config_file import read_config
from ella_core.training.disk import flush, write_whole
from ella_core.training.filter import Filter, FilterOptions
from ella_core.training.pictures import Problems, picture_shards
from ella_core.training.precompute import precompute
from ella_core.training.stages import run_stage
from ella_core.training.trainer import Trainer
from support.training import settings, write_pictures

no_windows = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no limit of a file's size"
)


@contextmanager
def full_disk(size):
    """No file can grow beyond `size` bytes."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@no_windows
def test_a_checkpoint(config):
    Trainer(config(steps=5)).train()
    trainer = Trainer(config(steps=10))
    folder = trainer.config.run / "checkpoints"
    with (
        full_disk(20_000),
        pytest.raises(EllaError, match=r"step-00000010\.part can't be written: .*GB are free"),
    ):
        trainer.train()
    assert [path.name for path in folder.iterdir()] == ["step-00000005"]
    load_file(folder / "step-00000005" / CONNECTOR)
    again = Trainer(config(steps=10))
    assert again.step == 5
    again.train()
    assert Checkpoints(folder).all()[-1].name == "step-00000010"


def test_too_little_room_for_checkpoints_is_said_before(config, monkeypatch):
    monkeypatch.setattr("ella_core.training.parts.free_gigabytes", lambda _: 1e-6)
    with pytest.raises(EllaError, match=r"0\.00 GB are free .* 3 more checkpoints take 0\.00 GB"):
        Trainer(config())


def test_what_checkpoints_take_is_counted_right(config, monkeypatch):
    """All of a checkpoint, and of those that are kept the ones that are not there yet."""
    made = config(steps=5, optimiser={"lr": 1e-3, "ema": 0.9})
    Trainer(made).train()
    (checkpoint,) = Checkpoints(made.run / "checkpoints").all()
    found = sum(file.stat().st_size for file in checkpoint.iterdir())
    size = parts.checkpoint_bytes(made, Trainer(made).parts.connector)
    assert size < found < 1.1 * size

    monkeypatch.setattr(parts, "free_gigabytes", lambda _: 2 * size / 1e9)
    assert Trainer(made).step == 5
    with pytest.raises(EllaError, match="3 more checkpoints take"):
        Trainer(config(run="anew"))


@no_windows
def test_a_shard_of_the_cache(models, data, tmp_path):
    made = read_config(
        {
            **settings(models, tmp_path, tmp_path / "run"),
            "data": {
                "resolution": 32,
                "sources": [{"pictures": str(data / "pictures"), "cache": str(tmp_path / "cache")}],
            },
        }
    )
    with (
        full_disk(10_000),
        pytest.raises(EllaError, match=r"000000\.safetensors can't be written"),
    ):
        precompute(made)
    assert not list((tmp_path / "cache").glob("*.safetensors"))
    precompute(made)
    path = tmp_path / "cache/000000.safetensors"
    whole = path.read_bytes()

    # A shard that something else has cut short is made again, not trusted and not in the way.
    path.write_bytes(whole[:-10])
    precompute(made)
    assert Shard(path).keys
    again = load_file(path)
    assert all(torch.equal(again[name], tensor) for name, tensor in load(whole).items())


@no_windows
def test_a_shard_of_pictures(tmp_path, monkeypatch):
    (tmp_path / "any_score.py").write_text(
        "def make(device): return lambda images: [10] * len(images)"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    pictures = write_pictures(tmp_path / "pictures", 5)
    stage = Filter(FilterOptions(edge=32, predictor="any_score:make"))
    with full_disk(10_000), pytest.raises(EllaError, match=r"000000\.tar\.part can't be written"):
        run_stage(stage, pictures, tmp_path / "new")
    assert not list((tmp_path / "new").glob("*.tar"))
    assert run_stage(stage, pictures, tmp_path / "new").written == 5
    (shard,) = picture_shards(tmp_path / "new", 1, problems := Problems())
    assert len(list(shard.read(problems))) == 5
    assert not problems.skipped


def test_flushing_works_where_windows_would_refuse(tmp_path, monkeypatch):
    """It opens no folders, and flushes no file that was opened for reading."""
    opened = os.open

    def refusing(path, flags):
        if flags & (os.O_RDWR | os.O_WRONLY) == 0:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags)

    monkeypatch.setattr(disk.os, "open", refusing)
    monkeypatch.setattr(disk.sys, "platform", "win32")
    write_whole(tmp_path / "a", b"whole")
    flush(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"whole"
