"""A real ComfyUI with small models, and graphs for it."""

import uuid
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, T5EncoderModel

from comfyui import Result, Server
from tiny_models import write_t5

from . import recording
from .models import write_controlnet, write_llama, write_lora, write_mlp, write_tsc
from .reference import tsc

T5 = "some folder/t5 in it"  # what it is called must not matter
LLM_DIM = 64
HOST_PACKS = Path(__file__).parents[1] / "host_packs"


@dataclass
class Host:
    """The running server, and what the tests' own reference needs of its models."""

    server: Server
    tsc_weights: dict[str, torch.Tensor]

    @property
    def models(self) -> Path:
        return self.server.base / "models"

    def run(self, graph: "Graph", on_progress=None) -> Result:
        return self.server.run(graph.nodes, on_progress)

    def records(self, name: str) -> list[dict[str, torch.Tensor]]:
        """Return the records of a recorder node, in order of the calls."""
        folder = self.server.base / "output" / name
        records = [load_file(file) for file in sorted(folder.iterdir())]
        recording.note(records)
        return records

    def latent(self, result: Result, node: str) -> torch.Tensor:
        """Return the latent that a SaveLatent node saved."""
        (file,) = result.outputs[node]["latents"]
        return load_file(self.server.base / "output" / file["subfolder"] / file["filename"])[
            "latent_tensor"
        ]

    def reference(self, text: str) -> "Reference":
        return Reference(self.models / "text_encoders" / T5, self.tsc_weights, text)


class Reference:
    """Compute the context that the U-Net must get: transformers' own T5, then the plain TSC."""

    def __init__(self, t5: Path, weights: dict[str, torch.Tensor], text: str) -> None:
        ids = AutoTokenizer.from_pretrained(t5)(text, return_tensors="pt").input_ids
        with torch.no_grad():
            self.features = T5EncoderModel.from_pretrained(t5).eval()(ids).last_hidden_state
        self._weights = weights
        self._seen: dict[float, torch.Tensor] = {}

    @property
    def tokens(self) -> int:
        return self.features.shape[1]

    def at(self, timestep: float) -> torch.Tensor:
        """(N, W) tokens at a timestep."""
        if timestep not in self._seen:
            with torch.no_grad():
                self._seen[timestep] = tsc(self._weights, self.features, timestep)[0]
        return self._seen[timestep]


def plain_tokens(seed: int, batch: int = 1, width: int = 768) -> torch.Tensor:
    """(batch, 77, width): what `EllaGraph.plain` holds."""
    return torch.randn(batch, 77, width, generator=torch.Generator().manual_seed(seed))


def rows(record: dict[str, torch.Tensor], index: int) -> torch.Tensor:
    """(B, N, W): the context rows of a recorded call that belong to the index-th conditioning."""
    chunks = record["context"].chunk(len(record["cond_or_uncond"]))
    return chunks[record["cond_or_uncond"].tolist().index(index)]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative difference in L2; infinite where the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    return ((found - expected).norm() / expected.norm()).item()


class Graph:
    """A prompt in API form, built node by node."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict] = {}

    def add(self, class_type: str, **inputs) -> "Node":
        """Add a node; an input given as a `Node` is its first output."""
        linked = {k: v[0] if isinstance(v, Node) else v for k, v in inputs.items()}
        node = Node(str(len(self.nodes) + 1))
        self.nodes[node.id] = {"class_type": class_type, "inputs": linked}
        return node


class Node:
    def __init__(self, node_id: str) -> None:
        self.id = node_id

    def __getitem__(self, output: int) -> list:
        return [self.id, output]


class EllaGraph(Graph):
    """The four nodes, ready to be sampled with."""

    def __init__(
        self,
        positive: str = "A red cat.",
        negative: str = "",
        ckpt="sd15.safetensors",
        ella="tsc.safetensors",
        llm=T5,
        model: Node | None = None,
        max_length: int = 0,
    ) -> None:
        super().__init__()
        self.checkpoint = self.add("CheckpointLoaderSimple", ckpt_name=ckpt)
        self.ella = self.add("ELLALoad", ella_name=ella)
        self.llm = self.add("ELLALoadLLM", llm_name=llm, dtype="fp32")
        self.max_length = max_length
        self.conditioning = self.condition(positive, negative)
        self.record = f"record-{uuid.uuid4().hex}"

    def encode(self, text: str) -> Node:
        return self.add("ELLALLMTextEncode", llm=self.llm, text=text, max_length=self.max_length)

    def condition(self, positive: str, negative: str, model: Node | None = None) -> Node:
        return self.add(
            "ELLATimestepConditioning",
            model=model or self.checkpoint,
            ella=self.ella,
            positive=self.encode(positive),
            negative=self.encode(negative),
        )

    def plain(self, seed: int, width: int = 768, batch: int = 1) -> Node:
        """A CONDITIONING of 77 tokens that is none of ELLA's, in place of CLIP's."""
        return self.add("TestPlainConditioning", seed=seed, width=width, batch=batch)

    def sample(
        self, record: bool = True, batch: int = 1, width: int = 64, height: int = 64, **changes
    ) -> Node:
        """KSampler over an empty latent, its size in pixels; `changes` are KSampler's inputs."""
        inputs = {
            "model": self.conditioning[0],
            "positive": self.conditioning[1],
            "negative": self.conditioning[2],
            "seed": 1,
            "steps": 6,
            "cfg": 5.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            **changes,
        }
        if record:
            inputs["model"] = self.add("TestRecordUNet", model=inputs["model"], name=self.record)
        if "latent_image" not in inputs:
            inputs["latent_image"] = self.add(
                "EmptyLatentImage", width=width, height=height, batch_size=batch
            )
        return self.add("KSampler", **inputs)

    def save(self, samples: Node) -> Node:
        return self.add("SaveLatent", samples=samples, filename_prefix=uuid.uuid4().hex)


def assemble(models: Path) -> dict[str, torch.Tensor]:
    """Everything the tests load, in ComfyUI's folders. Returns the TSC's tensors."""
    from tiny_models import draw_checkpoint

    draw_checkpoint(models / "checkpoints/sd15.safetensors")
    draw_checkpoint(
        models / "checkpoints/sd2.safetensors", context_dim=1024, use_linear_in_transformer=True
    )
    write_t5(models / "text_encoders" / T5, width=LLM_DIM)
    write_mlp(models / "ella/mlp.safetensors", LLM_DIM)
    write_controlnet(models / "controlnet/controlnet.safetensors")
    write_lora(models / "loras/lora.safetensors")
    write_llama(models / "LLM/llama-96", width=96)
    return write_tsc(models / "ella/tsc.safetensors", layers=2, llm_dim=LLM_DIM)


def link_few(models: Path, target: Path) -> None:
    """Two connectors, the T5 that reads for them, and three LLMs that don't: what "auto" needs."""
    chosen = ("checkpoints/sd15", "ella/tsc", "ella/mlp")
    for name in (*(f"{each}.safetensors" for each in chosen), f"text_encoders/{T5}"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).symlink_to(models / name)
    write_llama(target / "LLM/of another width", width=96)
    write_llama(target / "LLM/of another kind", width=LLM_DIM)
    (target / "LLM/no llm").mkdir()
    (target / "LLM/no llm/config.json").write_text("{}")
