"""LLMs that several files read with."""

import pytest
import torch

from bootstrap import smollm2_gguf
from ella_core.text_encoders import load_text_encoder
from support.models import write_llama
from tiny_models import write_t5


@pytest.fixture(scope="session")
def t5(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5") / "an odd name"
    write_t5(folder)
    return folder


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama") / "llama"
    write_llama(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2():
    return load_text_encoder(smollm2_gguf(), torch.float32)
