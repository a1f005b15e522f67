"""LLMs as they lie about on people's disks: other names, one file, scaled fp8, pointers."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from bootstrap import host_dir
from ella_core.errors import EllaError
from ella_core.text_encoders import TokenizerPlaces, check_text_encoder, load_text_encoder
from ella_core.text_encoders.folder import TOKENIZER_FILES
from ella_core.text_encoders.single_file import is_llm_file, read_config

TEXT = "A red cat."
PLACES = TokenizerPlaces(shipped=host_dir() / "comfy/text_encoders")
METADATA = {"format": "pt"}


def features(path, places=PLACES):
    return load_text_encoder(path, torch.float32, places=places).encode([TEXT])[0].features


def refused(path):
    with pytest.raises(EllaError) as error:
        load_text_encoder(path, torch.float32, places=PLACES)
    return str(error.value)


@pytest.fixture
def folder(llama, tmp_path):
    shutil.copytree(llama, tmp_path / "small")
    return tmp_path / "small"


def rewrite(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", METADATA)


@pytest.mark.parametrize(
    "name", ["pytorch_model.safetensors", "model.fp16.safetensors", "t5xl.safetensors"]
)
def test_weights_under_another_name(folder, llama, name):
    (folder / "model.safetensors").rename(folder / name)
    check_text_encoder(folder)
    assert torch.equal(features(folder), features(llama))


def test_several_weights_of_which_none_is_named(folder):
    for name in ("a.safetensors", "b.safetensors"):
        shutil.copy(folder / "model.safetensors", folder / name)
    (folder / "model.safetensors").unlink()
    message = refused(folder)
    assert "several safetensors files and no model.safetensors.index.json: a.safetensors, b." in (
        message
    )
    assert "Rename the one to use to model.safetensors" in message


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "x.safetensors.index.fp16.json"])
def test_weights_in_parts(folder, llama, name):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {key: f"part-{i % 2}.safetensors" for i, key in enumerate(sorted(tensors))}
    for part in set(places.values()):
        save_file({k: tensors[k] for k in tensors if places[k] == part}, folder / part, METADATA)
    (folder / name).write_text(json.dumps({"weight_map": places}))
    assert torch.equal(features(folder), features(llama))
    (folder / name).write_text("{")
    assert f"{name} in the LLM folder small is damaged" in refused(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_pointer_of_git_lfs(folder, name):
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    message = refused(folder)
    assert f"{name} in {folder} is a Git LFS pointer of 63 bytes, not the file itself" in message


def test_files_that_all_have_a_prefix(folder):
    for file in list(folder.iterdir()):
        file.rename(folder / f"small_{file.name}")
    assert (
        "All its files begin with 'small_': rename them without it, small_config.json to "
        "config.json and so on" in refused(folder)
    )


def quantised(tensors, scale_name, rows):
    """ComfyUI's scaled fp8, and the same weights in full."""
    stored, exact = dict(tensors), dict(tensors)
    for name, weight in tensors.items():
        if "self_attn." in name:
            largest = weight.abs().amax(dim=1) if rows else weight.abs().max()
            scale = largest / 448
            stored[name] = (weight / (scale[:, None] if rows else scale)).to(torch.float8_e4m3fn)
            stored[name.removesuffix("weight") + scale_name] = scale
            exact[name] = stored[name].float() * (scale[:, None] if rows else scale)
    return stored, exact


def mark(format_name):
    return torch.tensor(list(json.dumps({"format": format_name}).encode()), dtype=torch.uint8)


@pytest.mark.parametrize("scale_name", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("rows", [False, True])
def test_scaled_fp8(folder, scale_name, rows):
    stored, exact = quantised(load_file(folder / "model.safetensors"), scale_name, rows)
    layer = "layers.0.self_attn.q_proj"
    if scale_name == "scale_weight":
        stored |= {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
        stored |= {f"{layer}.scale_input": torch.ones(())}
    else:
        stored |= {f"{layer}.comfy_quant": mark("float8_e4m3fn")}
        stored |= {f"{layer}.input_scale": torch.ones(())}
    save_file(exact, folder / "model.safetensors", METADATA)
    expected = features(folder)
    save_file(stored, folder / "model.safetensors", METADATA)
    assert torch.equal(features(folder), expected)
    unscaled = {k: t for k, t in stored.items() if not k.endswith(scale_name)}
    save_file(unscaled, folder / "model.safetensors", METADATA)
    assert (features(folder) - expected).abs().max() > 0.1


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("surplus.weight", torch.zeros(2), "1 tensors have no place in a llama, such as surplus"),
        ("layers.0.self_attn.q_proj.absmax", torch.zeros(2), "no place in a llama"),
        ("layers.9.self_attn.q_proj.weight", torch.zeros(64, 64), "no place in a llama"),
        ("x.weight", torch.zeros(2, dtype=torch.uint8), "stored as torch.uint8: these weights are"),
        ("x.scale_weight", torch.ones(()), "a scale for x.weight, which is missing"),
        ("x.comfy_quant", mark("nvfp4"), "only fp8 can be read"),
    ],
)
def test_tensors_that_the_model_has_no_place_for(folder, name, tensor, message):
    rewrite(folder, lambda tensors: tensors.update({name: tensor}))
    assert message in refused(folder)


def test_a_t5_in_one_file(t5, tmp_path):
    """With the rest of a whole T5, which is not read."""
    path = tmp_path / "t5xxl_fp16.safetensors"
    whole = load_file(t5 / "model.safetensors")
    whole["lm_head.weight"] = torch.zeros(32128, 64)
    whole["decoder.block.0.layer.0.SelfAttention.q.weight"] = torch.zeros(64, 64)
    save_file(whole, path)
    assert is_llm_file(path)
    assert torch.equal(features(path), features(t5))
    with pytest.raises(EllaError, match="its tokenizer is not there: put the tok"):
        features(path, TokenizerPlaces())


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("kind", ["T5", "UMT5"])
def test_the_configuration_of_a_t5_is_read_off_its_shapes(tmp_path, kind, gated):
    expected = getattr(transformers, f"{kind}Config")(
        vocab_size=100,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=3,
        num_heads=2,
        relative_attention_num_buckets=16,
        feed_forward_proj="gated-gelu" if gated else "relu",
    )
    model = getattr(transformers, f"{kind}EncoderModel")(expected)
    tensors = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    save_file(tensors, tmp_path / "x.safetensors")
    found = read_config(tmp_path / "x.safetensors")
    for name in ("model_type", "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads",
                 "relative_attention_num_buckets", "feed_forward_proj"):  # fmt: skip
        assert getattr(found, name) == getattr(expected, name), name


def save_decoder(config, path, prefix=""):
    """A decoder-only LLM in one file; returns its model."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).eval()
    save_file({prefix + key: tensor for key, tensor in model.state_dict().items()}, path)
    return model


DECODER = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}


def test_a_qwen3_in_one_file_with_the_tokenizer_of_comfyui(tmp_path):
    if not hasattr(transformers, "Qwen3Config"):
        pytest.skip("this transformers has no Qwen3")
    config = transformers.Qwen3Config(vocab_size=151936, rope_theta=1e6, **DECODER)
    model = save_decoder(config, tmp_path / "qwen_3.safetensors", "model.")
    tokenizer = transformers.AutoTokenizer.from_pretrained(PLACES.shipped / "qwen25_tokenizer")
    with torch.no_grad():
        expected = model(**tokenizer(TEXT, return_tensors="pt")).last_hidden_state
    assert torch.equal(features(tmp_path / "qwen_3.safetensors"), expected)


def beside(llama, folder):
    """The tokenizer of another LLM in a folder of its own."""
    folder.mkdir()
    for file in llama.iterdir():
        if file.name in TOKENIZER_FILES or "token" in file.name:
            shutil.copy(file, folder)


def test_a_gemma_3_in_one_file_with_its_tokenizer_beside_it(llama, tmp_path):
    sizes = {**DECODER, "hidden_size": 1152, "vocab_size": 128}
    config = transformers.Gemma3TextConfig(**sizes, sliding_window=512)
    path = tmp_path / "gemma.safetensors"
    model = save_decoder(config, path, "model.")
    beside(llama, tmp_path / "gemma")
    ids = transformers.AutoTokenizer.from_pretrained(llama)(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert torch.equal(features(path), expected)
    assert read_config(path).sliding_window == 512


def test_the_tokenizer_of_another_llm_beside_a_file(llama, tmp_path):
    config = transformers.Gemma3TextConfig(**{**DECODER, "hidden_size": 1152, "vocab_size": 60})
    save_decoder(config, tmp_path / "gemma.safetensors")
    beside(llama, tmp_path / "gemma")
    message = refused(tmp_path / "gemma.safetensors")
    assert f"{tmp_path / 'gemma'} has " in message
    assert "and the LLM knows 60. Put the LLM's own tokenizer" in message


def test_a_llama_in_one_file_needs_its_configuration(llama, tmp_path):
    path = tmp_path / "llama.safetensors"
    shutil.copy(llama / "model.safetensors", path)
    with pytest.raises(EllaError, match=r"attention heads can't be read .* config\.json and the"):
        check_text_encoder(path)


def test_a_clip_is_no_llm(tmp_path):
    path = tmp_path / "clip_l.safetensors"
    save_file({"text_model.embeddings.position_embedding.weight": torch.zeros(2, 2)}, path)
    assert not is_llm_file(path)
    with pytest.raises(EllaError, match="neither a T5 encoder nor a decoder-only"):
        check_text_encoder(path)
    path.write_bytes(b"damaged")
    assert not is_llm_file(path)
    with pytest.raises(EllaError, match=r"The LLM clip_l\.safetensors can't be loaded"):
        check_text_encoder(path)


def test_a_t5gemma_reads_with_its_encoder(llama, tmp_path):
    if not hasattr(transformers, "T5GemmaConfig"):
        pytest.skip("this transformers has no T5Gemma")
    half = {**DECODER, "vocab_size": 128}
    config = transformers.T5GemmaConfig(
        encoder=half, decoder={**half, "hidden_size": 32}, vocab_size=128
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    folder = tmp_path / "t5gemma"
    beside(llama, folder)
    model.save_pretrained(folder)
    ids = transformers.AutoTokenizer.from_pretrained(llama)(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        expected = model.get_encoder()(**inputs).last_hidden_state
    encoder = load_text_encoder(folder, torch.float32)
    assert torch.equal(encoder.encode([TEXT])[0].features, expected)
    assert (encoder.width, encoder.identity.layers) == (64, 2)
