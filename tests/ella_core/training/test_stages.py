"""Captioning and filtering: new shards of pictures, what is skipped, and going on."""

import json
import tarfile

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    AutoProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    LlavaForConditionalGeneration,
)

from bootstrap import ROOT, host_dir
from ella_core.errors import EllaError
from ella_core.training.aesthetics import ClipPredictor
from ella_core.training.caption import Caption, CaptionOptions
from ella_core.training.cli import main
from ella_core.training.stages import run_stage
from ella_core.vision import ChatModel
from support.judges import write_chat
from support.training import TWO_PROCESSES, run_python, write_pictures

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    write_chat(folder)
    return folder


@pytest.fixture
def pictures(tmp_path):
    """Seven: of 40 x 32 pixels, the fourth damaged, the fifth without captions."""
    folder = write_pictures(tmp_path / "pictures", 7)
    whole = (folder / "003.png").read_bytes()
    (folder / "003.png").write_bytes(whole[: len(whole) // 2])
    (folder / "004.json").unlink()
    (folder / "005.json").unlink()
    (folder / "005.txt").write_text("the Colosseum in Rome")
    return folder


def caption(vlm, pictures, target, batch=2, **options):
    options = {"instruction": "is there a cup", "tokens": 12, **options}
    return run_stage(
        Caption(CaptionOptions(str(vlm), **options), batch), pictures, target, shard_size=3
    )


def read(folder):
    """Name of the file -> content, of all tars together."""
    contents = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            contents |= {member.name: tar.extractfile(member).read() for member in tar}
    return contents


def test_captions_are_the_models_own_and_stand_beside_the_old_ones(vlm, pictures, tmp_path):
    report = caption(vlm, pictures, tmp_path / "new")
    assert (report.written, report.skipped) == (6, ["000001/003"])

    processor = AutoProcessor.from_pretrained(vlm)
    model = LlavaForConditionalGeneration.from_pretrained(vlm).eval()
    new = read(tmp_path / "new")
    old = {"000": {"long", "short"}, "004": set(), "005": {"caption"}}
    for key, kinds in old.items():
        image = Image.open(pictures / f"{key}.png")
        inputs = processor(text="<s> <image> is there a cup : ", images=image, return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        text = processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        captions = json.loads(new[f"{key}.json"])["captions"]
        assert captions.pop("synthetic") == [text]
        assert captions.keys() == kinds
    assert new["000.png"] == (pictures / "000.png").read_bytes()
    assert new["000.context.npy"] == (pictures / "000.context.npy").read_bytes()
    assert not {name for name in new if name.startswith("003") or name.endswith(".txt")}

    # All is done, so that not even the model is needed; and other captions don't go among these.
    again = caption(vlm, pictures, tmp_path / "new")
    assert (again.written, again.skipped) == (6, ["000001/003"])
    with pytest.raises(EllaError, match="instruction was 'is there a cup' and is 'red'"):
        caption(vlm, pictures, tmp_path / "new", instruction="red")
    with pytest.raises(EllaError, match="the folder of the pictures themselves"):
        caption(vlm, pictures, pictures)


def test_captions_of_an_interrupted_shard_are_kept(vlm, pictures, tmp_path, monkeypatch):
    asked = []
    write = ChatModel.write

    def counting(self, images, texts, tokens):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.extend(images)
        return write(self, images, texts, tokens)

    monkeypatch.setattr(ChatModel, "write", counting)
    with pytest.raises(KeyboardInterrupt):
        caption(vlm, pictures, tmp_path / "new", batch=1)
    journal = tmp_path / "new/000001.jsonl"
    assert not journal.exists()
    asked[:] = [None] * 2
    with pytest.raises(KeyboardInterrupt):  # in the second shard, after one caption
        caption(vlm, pictures, tmp_path / "new", batch=1)
    with journal.open("a") as file:
        file.write('["005", "cut sho')
    asked.clear()
    monkeypatch.setattr(ChatModel, "write", write)
    caption(vlm, pictures, tmp_path / "new")
    assert not journal.exists()
    caption(vlm, pictures, tmp_path / "straight")
    assert read(tmp_path / "new") == read(tmp_path / "straight")


def test_pictures_that_came_or_went_afterwards_are_not_missed(vlm, pictures, tmp_path, caplog):
    """Shards of a folder are cut by count: what changed, and what is behind it, is made again."""
    caption(vlm, pictures, tmp_path / "new")
    kept = (tmp_path / "new/000000.tar").stat().st_mtime_ns
    Image.new("RGB", (40, 32)).save(pictures / "007.png")
    assert caption(vlm, pictures, tmp_path / "new").written == 7
    assert (tmp_path / "new/000000.tar").stat().st_mtime_ns == kept
    assert "000002.tar was made of other pictures" in caplog.text
    for number in (3, 4, 5):
        (pictures / f"00{number}.png").unlink()
    assert caption(vlm, pictures, tmp_path / "new").written == 5
    assert "also holds shards of other pictures: 000002.tar" in caplog.text
    caption(vlm, pictures, tmp_path / "straight")
    (tmp_path / "new/000002.tar").unlink()
    assert read(tmp_path / "new") == read(tmp_path / "straight")


def test_a_picture_that_the_model_refuses_costs_no_other(vlm, pictures, tmp_path, monkeypatch):
    Image.new("RGB", (400, 1)).save(pictures / "001.png")
    write = ChatModel.write

    def refusing(self, images, texts, tokens):
        if any(image.height == 1 for image in images):
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return write(self, images, texts, tokens)

    monkeypatch.setattr(ChatModel, "write", refusing)
    report = caption(vlm, pictures, tmp_path / "new", batch=3)
    assert (report.written, report.skipped) == (5, ["000000/001", "000001/003"])


def test_processes_share_the_shards(vlm, pictures, tmp_path):
    command = ["caption", pictures, tmp_path / "new", "--model", vlm, "--tokens", "12"]
    said = run_python(*TWO_PROCESSES, ROOT / "scripts/train.py", *command, "--shard-size", "3")
    assert "Wrote 6; skipped 1: 000001/003" in said
    assert said.count("Wrote") == 1
    assert "process 1 of 2" in said
    caption(vlm, pictures, tmp_path / "one", instruction=CaptionOptions("").instruction)
    assert read(tmp_path / "new") == read(tmp_path / "one")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            projection_dim=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
    ).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


def test_scores_are_linear_layers_on_clips_embedding(clip, pictures, tmp_path):
    generator = torch.Generator().manual_seed(0)
    layers = {"layers.0": (8, 16), "layers.2": (4, 8), "layers.10": (1, 4)}
    state = {f"{k}.weight": torch.randn(s, generator=generator) for k, s in layers.items()}
    state |= {f"{k}.bias": torch.randn(s[0], generator=generator) for k, s in layers.items()}
    save_file(state, tmp_path / "head.safetensors")
    torch.save(state, tmp_path / "head.pth")
    images = [Image.open(pictures / f"{n:03d}.png").convert("RGB") for n in (0, 1)]

    model = CLIPVisionModelWithProjection.from_pretrained(clip).eval()
    pixels = CLIPImageProcessor.from_pretrained(clip)(images, return_tensors="pt").pixel_values
    with torch.no_grad():
        x = model(pixels).image_embeds
    x = x / x.norm(dim=-1, keepdim=True)
    for name in layers:
        x = x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
    for file in ("head.safetensors", "head.pth"):
        scores = ClipPredictor(str(clip), tmp_path / file, CPU)(images)
        assert scores == pytest.approx(x[:, 0].tolist(), abs=1e-5)
    assert scores[0] != scores[1]

    save_file({"weight": torch.zeros(1, 768), "bias": torch.zeros(1)}, tmp_path / "v1.safetensors")
    with pytest.raises(EllaError, match=r"from 16 to 1, found \[\(1, 768\)\]"):
        ClipPredictor(str(clip), tmp_path / "v1.safetensors", CPU)
    (tmp_path / "damaged.pth").write_bytes(b"no weights")
    with pytest.raises(EllaError, match=r"damaged\.pth can't be opened"):
        ClipPredictor(str(clip), tmp_path / "damaged.pth", CPU)


PREDICTOR = """
def by_brightness(device):
    return lambda images: [image.getpixel((0, 0))[0] / 25.5 for image in images]
"""


def test_filter_keeps_large_and_beautiful_pictures(tmp_path, monkeypatch, capsys, caplog):
    (tmp_path / "my_predictor.py").write_text(PREDICTOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, size, shade, text in (
        ("bright", (600, 512), 200, "a red dog"),
        ("dark", (600, 512), 20, "two  cats and a bird"),
        ("grey", (600, 512), 153, "exactly six"),
        ("small", (600, 511), 200, "a bright small one"),
    ):
        Image.new("RGB", size, (shade,) * 3).save(pictures / f"{name}.png")
        (pictures / f"{name}.txt").write_text(text)
    (pictures / "damaged.png").write_bytes(b"no picture")
    whole = (pictures / "bright.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])

    command = ["filter", pictures, tmp_path / "new", "--predictor", "my_predictor:by_brightness"]
    command += ["--tokenizer", host_dir() / "comfy/sd1_tokenizer"]
    for _ in range(2):  # the second time nothing is left to be done, and the same is said
        caplog.clear()
        assert main(list(map(str, command))) == 0
        table = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert table == [
            ["before", "after"],
            ["pictures", "6", "1"],
            ["captions", "4", "1"],
            ["words", "3.50", "3.00"],
            ["CLIP", "tokens", "5.50", "5.00"],
        ]
        assert "Left out 1: short edge under 512 pixels" in caplog.text
        assert "Left out 2: score not over 6" in caplog.text
        assert "Wrote 1; skipped 2: 000000/damaged, 000000/cut" in caplog.text
    kept = read(tmp_path / "new")
    assert kept == {"bright.png": whole, "bright.txt": b"a red dog"}


def test_a_predictor_that_is_missing_is_named(pictures, tmp_path, capsys):
    for options, message in (
        ([], "needs one aesthetic predictor"),
        (["--predictor", "absent:x"], "There is no predictor absent:x: No module named 'absent'"),
    ):
        assert main(["filter", str(pictures), str(tmp_path / "new"), *options]) == 1
        assert message in capsys.readouterr().err


def test_captions_that_are_no_captions_are_named(pictures, vlm, tmp_path):
    for key, text in (("000", "[]"), ("001", '{"captions": ["a"]}'), ("002", '{"captions": ')):
        (pictures / f"{key}.json").write_text(text)
    report = caption(vlm, pictures, tmp_path / "new")
    assert report.skipped == ["000000/000", "000000/001", "000000/002", "000001/003"]
