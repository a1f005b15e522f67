"""A small SDXL with an LLM adapter or an ELLA of its shape, and what its U-Net must get."""

import math
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
import transformers
from safetensors.torch import load_file

from ella_core.config import ADAPTER_RECIPES, LLMAdapterConfig, ResamplerConfig, TimeConfig

from . import reference
from .exactness import TOLERANCE
from .host import LLM_DIM, T5, EllaGraph, Host, relative_error
from .llms import write_gemma, write_t5gemma
from .models import add_sdxl_clips, write_controlnet

CONTROLNET = "sdxl-controlnet.safetensors"
CHECKPOINT, ADAPTER, ELLA_SDXL = "sdxl.safetensors", "adapter.safetensors", "ella-sdxl.safetensors"
WITH_CLIPS = "sdxl-with-clips.safetensors"  # not among `models`: see `write_with_clips`
GEMMA, T5GEMMA = "gemma", "t5gemma"
MAX_TOKENS = 256
POSITIVE, NEGATIVE, THIRD = "A red cat.", "", "Two (blue) dogs run."

#: Narrow in front: at SDXL's widths a block has 50M parameters.
ADAPTER_CONFIG = LLMAdapterConfig(48, 2048, 1, 0, max_tokens=MAX_TOKENS, num_latents=12)
ELLA_SDXL_CONFIG = ResamplerConfig(
    LLM_DIM, 64, 1, 8, 8, TimeConfig(32, 40), context_dim=2048, pooled_dim=1280
)


@contextmanager
def models(host: Host) -> Iterator[None]:
    """Have everything in the server's folders; some 700 MB in memory while it is used."""
    from tiny_models import SDXL, draw_checkpoint, draw_connector

    half = torch.float16
    files = {
        "checkpoints": CHECKPOINT,
        "controlnet": CONTROLNET,
        "llm_adapters": ADAPTER,
        "ella": ELLA_SDXL,
    }
    checkpoint, controlnet, adapter, ella = (host.models / k / v for k, v in files.items())
    draw_checkpoint(checkpoint, dtype=half, **SDXL)
    write_controlnet(controlnet, half, **SDXL)
    draw_connector(adapter, ADAPTER_CONFIG, dtype=half)
    draw_connector(ella, ELLA_SDXL_CONFIG)
    llms = [host.models / "LLM" / name for name in (GEMMA, T5GEMMA)]
    for write, folder in zip((write_gemma, write_t5gemma), llms, strict=True):
        write(folder)
    yield
    for file in (checkpoint, controlnet, adapter, ella):
        file.unlink()
    checkpoint.with_name(WITH_CLIPS).unlink(missing_ok=True)
    for folder in llms:
        shutil.rmtree(folder)


def write_with_clips(host: Host) -> None:
    """Add the checkpoint with SDXL's two CLIPs, unless it is there."""
    folder = host.models / "checkpoints"
    if not (folder / WITH_CLIPS).is_file():
        add_sdxl_clips(folder / CHECKPOINT, folder / WITH_CLIPS)


class SDXLGraph(EllaGraph):
    """The four nodes around the small SDXL."""

    def __init__(self, positive: str, negative: str, ella: str = ADAPTER, llm: str = GEMMA) -> None:
        super().__init__(positive, negative, CHECKPOINT, ella, llm if ella == ADAPTER else T5)

    def recorded(self, **changes) -> str:
        """A KSampler with a recorder of its own, saved; returns the recorder's name."""
        name = f"record-{uuid.uuid4().hex}"
        model = changes.pop("model", self.conditioning[0])
        model = self.add("TestRecordUNet", model=model, name=name)
        self.save(self.sample(record=False, model=model, **{"steps": 3, **changes}))
        return name


@dataclass
class Row:
    """One conditioning in one call of the U-Net."""

    index: int
    timestep: float
    context: torch.Tensor
    pooled: torch.Tensor
    sizes: torch.Tensor


def rows(host: Host, name: str) -> list[Row]:
    """What a recorder wrote; SDXL's vector is taken apart."""
    found = []
    for record in host.records(name):
        indices = record["cond_or_uncond"].tolist()
        parts = [record[key].chunk(len(indices)) for key in ("context", "y", "timesteps")]
        for index, context, y, timesteps in zip(indices, *parts, strict=True):
            (timestep,) = set(timesteps.tolist())
            found.append(Row(index, timestep, context, y[:, :1280], y[:, 1280:]))
    assert found
    return found


def embedded(*numbers: float) -> torch.Tensor:
    """Sizes and crops as SDXL embeds them: cosines and sines of 128 frequencies each."""
    parts = []
    for number in numbers:
        angles = torch.tensor([number * math.exp(-math.log(10000) * i / 128) for i in range(128)])
        parts += [angles.cos(), angles.sin()]
    return torch.cat(parts)


# height, width, crop, crop, target height, target width: ComfyUI's own, of a latent of 64 pixels
SIZES = embedded(64, 64, 0, 0, 64, 64)


def run(host: Host, graph: EllaGraph):
    """Run a graph that must succeed."""
    result = host.run(graph)
    assert result.error is None, result.error["exception_message"]
    return result


def off_by(row: Row, expected, samples: int = 1) -> float:
    """The worst relative error of a row's context and pooled embedding."""
    assert len(row.context) == len(row.pooled) == samples
    pairs = [(row.context, expected[0]), (row.pooled, expected[1])]
    return max(relative_error(x, wanted[0]) for found, wanted in pairs for x in found)


def check(host: Host, name: str, expected, samples: int = 1, sizes=SIZES) -> list[Row]:
    """Each row is `expected` of its index and timestep: (context, pooled)."""
    found = rows(host, name)
    assert {row.index for row in found} == set(range(len(expected)))
    for row in found:
        assert off_by(row, expected[row.index](row.timestep), samples) < TOLERANCE
        torch.testing.assert_close(row.sizes, sizes.expand(samples, -1), rtol=0, atol=1e-3)
    return found


def adapted(prompt: "Prompt", llm: str = "gemma"):
    """What `check` expects of a connector that knows no timestep."""
    return lambda _: getattr(prompt, llm)


class Prompt:
    """What the U-Net must get for a prompt, from transformers and plain functions alone."""

    def __init__(self, host: Host, text: str) -> None:
        self._host, self._text = host, text

    @cached_property
    def gemma(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(1, N, C) context and (1, P) pooled embedding of the adapter, read by Gemma."""
        folder = self._host.models / "LLM" / GEMMA
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        messages = [
            {"role": "system", "content": ADAPTER_RECIPES["gemma3_text"].system_prompt},
            {"role": "user", "content": self._text},
        ]
        inputs = tokenizer.apply_chat_template(
            messages, return_dict=True, return_tensors="pt", add_generation_prompt=True
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            features = model(**inputs, output_hidden_states=True).hidden_states[-1][:, 27:]
        return self.adapted(features, None)

    @cached_property
    def t5gemma(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, read by T5Gemma."""
        folder = self._host.models / "LLM" / T5GEMMA
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        inputs = tokenizer(
            self._text + "<eos>",
            return_tensors="pt",
            padding="max_length",
            max_length=MAX_TOKENS,
            truncation=True,
        )
        model = transformers.T5GemmaEncoderModel.from_pretrained(folder, is_encoder_decoder=False)
        with torch.no_grad():
            features = model(**inputs).last_hidden_state
        return self.adapted(features, inputs.attention_mask)

    def adapted(self, features, mask):
        """What the adapter makes of (1, L, D) features."""
        with torch.no_grad():
            return reference.llm_adapter(self.weights("llm_adapters", ADAPTER), features, mask)

    def ella(self, timestep: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Context and pooled embedding of ELLA's own shape at a timestep, read by T5."""
        weights = self.weights("ella", ELLA_SDXL)
        with torch.no_grad():
            context = reference.tsc(weights, self._host.reference(self._text).features, timestep)
            return context, reference.pooled(weights, context)

    def weights(self, folder: str, name: str) -> dict[str, torch.Tensor]:
        """The tensors of a connector among ComfyUI's models."""
        tensors = load_file(self._host.models / folder / name)
        return {key: tensor.float() for key, tensor in tensors.items()}
