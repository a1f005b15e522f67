"""Damaged, foreign and missing connector files: one error, which names the file."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ella_core.checkpoint import load_connector
from ella_core.errors import EllaError
from support.models import write_tsc


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "small.safetensors"
    write_tsc(path, width=64, layers=2, num_latents=8, llm_dim=48, time_channels=32, time_dim=40)
    return path.read_bytes()


@pytest.fixture
def path(whole, tmp_path):
    path = tmp_path / "any name.safetensors"
    path.write_bytes(whole)
    return path


def test_a_file_cut_short_anywhere_is_named(path, whole):
    for size in [0, 1, 7, 8, *random.Random(0).sample(range(9, len(whole)), 20)]:
        path.write_bytes(whole[:size])
        with pytest.raises(EllaError, match=rf"any name.safetensors .*{size:,} bytes"):
            load_connector(path)


def test_what_the_system_refuses_to_open_is_not_called_damaged(tmp_path):
    folder = tmp_path / "a folder.safetensors"
    folder.mkdir()
    with pytest.raises(EllaError, match=r"can't be opened: .*Check that ComfyUI may read it"):
        load_connector(folder)


def load_or_error(path):
    """The connector, or the one error that a bad file may give."""
    try:
        return load_connector(path)
    except EllaError as error:
        return error


HUGE = [2**63, 2**32, 10**8, 0, 1]


@given(claimed=st.sampled_from(HUGE) | st.integers(0, 2**64 - 1))
@settings(max_examples=60)
def test_a_header_that_lies_about_its_size(tmp_path_factory, whole, claimed):
    path = tmp_path_factory.getbasetemp() / "lying header.safetensors"
    path.write_bytes(claimed.to_bytes(8, "little") + whole[8:])
    if claimed != int.from_bytes(whole[:8], "little"):
        with pytest.raises(EllaError, match="cannot be read as safetensors"):
            load_connector(path)


def test_a_header_that_lies_about_a_tensors_size(path, whole):
    size = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + size]
    lying = header.replace(b'"shape":[8,64]', b'"shape":[9,64]', 1)
    assert lying != header
    path.write_bytes(whole[:8] + lying + whole[8 + size :])
    with pytest.raises(EllaError, match="cannot be read as safetensors"):
        load_connector(path)


@given(data=st.data())
@settings(max_examples=150)
def test_damage_anywhere_is_an_error_of_ours_or_harmless(tmp_path_factory, whole, data):
    """Bytes changed, cut out or put in: an EllaError, or a connector without NaN."""
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    header = 8 + int.from_bytes(whole[:8], "little")
    start = data.draw(st.integers(0, header) | st.integers(0, len(whole) - 1))
    length = data.draw(st.integers(0, 40))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=40)) + whole[start + length :])
    outcome = load_or_error(path)
    if isinstance(outcome, EllaError):
        assert path.name in str(outcome)
    else:
        assert all(p.isfinite().all() for p in outcome.parameters())


NAMES = [
    "connector.latents",
    "connector.proj_in.weight",
    "connector.proj_in.bias",
    "connector.proj_out.weight",
    "connector.time_aware_linear.weight",
    "time_embedding.linear_1.weight",
    "connector.perceiver_blocks.0.ln_1.weight",
    "connector.perceiver_blocks.0.ln_1.linear.weight",
    "connector.perceiver_blocks.x.attn.in_proj_weight",
    "connector.perceiver_blocks",
    "connector.",
]
SHAPES = st.lists(st.integers(0, 9), max_size=3).map(tuple)


@given(shapes=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), SHAPES, max_size=9))
@settings(max_examples=150)
def test_any_tensors_under_any_names(tmp_path_factory, shapes):
    path = tmp_path_factory.getbasetemp() / "odd.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    assert path.name in str(load_or_error(path))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(EllaError, match=r"There is no file .*gone.safetensors"):
        load_connector(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_pickles_are_refused_unopened(tmp_path, suffix):
    bomb = tmp_path / f"ella{suffix}"
    bomb.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    with pytest.raises(EllaError, match=r"is not a \.safetensors file"):
        load_connector(bomb)
    assert not (tmp_path / "ran").exists()
