"""Configs, pictures, shards and their order."""

import shutil
import tarfile
from collections import Counter

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ella_core.errors import EllaError
from ella_core.training.cache import Shard
from ella_core.training.config import LLMConfig, TextConfig
from ella_core.training.config_file import dump_config, load_config, read_config
from ella_core.training.crop import fit, shapes
from ella_core.training.encoding import CaptionEncoder
from ella_core.training.order import Mixture, Order, Shuffled
from ella_core.training.parts import assemble
from ella_core.training.precompute import precompute
from ella_core.training.trainer import Trainer
from support.models import write_adapter
from support.training import PICTURES, settings, write_pictures

CPU = torch.device("cpu")


def test_config_survives_being_saved_and_names_what_is_wrong(config, tmp_path):
    made, path = config(), tmp_path / "config.yaml"
    path.write_text(dump_config(made))
    assert load_config(path) == made
    assert load_config(path, ["optimiser.lr=0.5", "data.workers=7"]).optimiser.lr == 0.5
    for changes, message in (
        ({"optimizer": {}}, r"optimizer is not a setting: did you mean optimiser\?"),
        ({"connector": {"resampler": {"laers": 1}}}, r"did you mean layers\?"),
        ({"steps": "many"}, "steps is 'many'"),
        ({"micro_batch": 3}, "not a multiple of micro_batch"),
        ({"micro_batch": 0}, "micro_batch is 0. Set it to 1 or more"),
        ({"checkpoint": {"every": 0}}, "checkpoint.every is 0. Set it to 1 or more"),
    ):
        with pytest.raises(EllaError, match=message):
            config(**changes)
    with pytest.raises(EllaError, match="There is no config"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(EllaError, match="can't be read"):
        load_config(tmp_path)
    path.write_text("# nothing yet\n")
    with pytest.raises(EllaError, match="holds no settings, such as steps: 1000"):
        load_config(path, ["steps=3"])
    path.write_text(f"{dump_config(made)}\nsheet:\n")
    assert load_config(path, ["sheet.every=7"]).sheet.every == 7


def test_precompute_skips_what_is_damaged_and_goes_on(models, tmp_path):
    write_pictures(tmp_path / "loose", 6)
    (tmp_path / "loose/002.png").write_bytes(b"no picture")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a", "b"):
        with tarfile.open(pictures / f"{name}.tar", "w") as tar:
            for file in sorted((tmp_path / "loose").glob("0*")):
                tar.add(file, file.name)
    cut = (pictures / "b.tar").read_bytes()
    (pictures / "b.tar").write_bytes(cut[: len(cut) // 2])

    made = read_config(settings(models, tmp_path, tmp_path / "run"))
    skipped = precompute(made).skipped
    assert "a/002" in skipped
    assert "b.tar" in skipped
    first = Shard(tmp_path / "cache/a.safetensors")
    assert sum(first.buckets.values()) == 5
    assert first.skipped == ["a/002"]
    assert 0 < sum(Shard(tmp_path / "cache/b.safetensors").buckets.values()) < 5

    written = first.path.stat().st_mtime_ns
    (tmp_path / "cache/b.safetensors").unlink()
    precompute(made)
    assert first.path.stat().st_mtime_ns == written
    assert (tmp_path / "cache/b.safetensors").is_file()
    with pytest.raises(EllaError, match=r"a\.safetensors.*tokens 32 instead of 16"):
        precompute(
            read_config({**settings(models, tmp_path, tmp_path / "run"), "text": {"tokens": 16}})
        )


def test_precompute_makes_a_shard_of_other_pictures_again(models, tmp_path, caplog):
    made = read_config(settings(models, tmp_path, tmp_path / "run"))
    write_pictures(tmp_path / "pictures", 3)
    precompute(made)
    write_pictures(tmp_path / "pictures", 4)
    precompute(made)
    path = tmp_path / "cache/000000.safetensors"
    assert Shard(path).keys == ["000", "001", "002", "003"]
    assert "000000.safetensors was made of other pictures" in caplog.text
    caplog.clear()
    shutil.copy(path, tmp_path / "cache/000001.safetensors")
    precompute(made)
    assert "also holds shards of other pictures: 000001.safetensors" in caplog.text


def test_a_shard_cut_short_is_left_out(models, data, tmp_path, caplog):
    shutil.copytree(data / "cache", tmp_path / "cache")
    whole = (tmp_path / "cache/000000.safetensors").read_bytes()
    (tmp_path / "cache/000001.safetensors").write_bytes(whole[:-10])
    parts = assemble(read_config(settings(models, tmp_path, tmp_path / "run")), CPU)
    assert sum(sum(s) for s in parts.sources[0].buckets.values()) == PICTURES
    assert "000001.safetensors is damaged or cut short" in caplog.text


def test_what_does_not_fit_together_is_refused(config):
    wide = {"llm_dim": 64, "width": 32, "layers": 1, "heads": 4, "num_latents": 4}
    for changes, message in (
        ({"connector": {"resampler": wide}}, "width 32, and the U-Net .* takes 768"),
        ({"connector": {"resampler": {}}}, "width 2048, and llm makes 64"),
        ({"batch": 16}, "hold 12 pictures, fewer than a batch of 16"),
        ({"data": {}}, "no data"),
        ({"text": {"tokens": 16, "flexible": True}}, "tokens 32 instead of 16"),
    ):
        with pytest.raises(EllaError, match=message):
            assemble(config(**changes), CPU)


def test_an_llm_adapter_is_no_start_of_a_training(config, tmp_path):
    """It would be trained on captions without the template that ComfyUI reads them in."""
    write_adapter(path := tmp_path / "adapter.safetensors", llm_dim=64, wide=1, width=64)
    with pytest.raises(EllaError, match=r"adapter\.safetensors is an LLM adapter"):
        assemble(config(connector={"init_from": str(path)}), CPU)


def test_a_base_without_vae_is_refused_before_it_should_draw_a_sheet(config, models, tmp_path):
    unet = {
        k: t for k, t in load_file(models / "base.safetensors").items() if "first_stage" not in k
    }
    save_file(unet, tmp_path / "unet.safetensors")
    changes = {"base": {"path": str(tmp_path / "unet.safetensors")}}
    with pytest.raises(EllaError, match=r"holds no VAE, which draws the sheets\. Leave out"):
        assemble(config(**changes, sheet={"prompts": ["a red barn"]}), CPU)
    assert assemble(config(**changes), CPU).base.vae is None


def test_pictures_encoded_while_training_and_a_sheet(config, data):
    made = config(
        steps=1,
        data={"resolution": 32, "sources": [{"pictures": str(data / "pictures")}]},
        sheet={"prompts": ["a red barn", "fog"], "steps": 2},
    )
    Trainer(made).train()
    sheet = Image.open(made.run / "sheets/step-00000001.jpg")
    assert sheet.size == (32, 2 * (32 + 14))


def test_an_llm_that_is_spread_reads_the_same(models):
    texts, text = ["a red barn", ""], TextConfig(32, flexible=True)
    one, spread = (
        CaptionEncoder(LLMConfig(models / "llm", spread=spread), text, CPU)(texts)
        for spread in (False, True)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, spread, strict=True))


def test_mixtures_keep_their_shares_and_epochs_show_everything():
    mixture = Mixture([3, 1], seed=0)
    drawn = [mixture[i] for i in range(2000)]
    assert Counter(child for child, _ in drawn) == {0: 1500, 1: 500}
    assert sorted(rank for child, rank in drawn if child == 1) == list(range(500))
    shuffled = Shuffled([5, 0, 7, 4], window=2, seed=0)
    epochs = [[shuffled[16 * epoch + i] for i in range(16)] for epoch in range(3)]
    everything = {(s, i) for s, size in enumerate([5, 0, 7, 4]) for i in range(size)}
    assert all(set(epoch) == everything for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_micro_batch_has_one_shape():
    sources = [{(64, 64): [10, 10], (64, 128): [5]}, {(64, 64): [8]}]
    order = Order(sources, [1, 1], micro_batch=4, window=2, seed=0)
    places = [order[i] for i in range(4000)]
    for i in range(0, 4000, 4):
        assert len({shape for _, shape, _, _ in places[i : i + 4]}) == 1
    assert Counter(source for source, *_ in places)[0] == pytest.approx(2000, abs=60)


def test_crops_fill_the_shape_and_keep_the_middle():
    image = Image.new("RGB", (60, 40), "red")
    pixels, sizes = fit(image, shapes(32, buckets=False, step=8))
    assert pixels.shape == (3, 32, 32)
    assert torch.equal(pixels[:, 0, 0], torch.tensor([1.0, -1.0, -1.0]))
    assert sizes == (40, 60, 0, 8, 32, 32)
    assert fit(image, shapes(32, buckets=True, step=8))[0].shape == (3, 24, 40)
