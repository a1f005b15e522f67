"""How often a model call has to wait for a GPU: whatever it reads back, or fetches from memory.

On the CPU nothing waits, but the same functions are called: they are counted.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode

import tiny_models
from ella_core.config import ResamplerConfig, TimeConfig
from ella_core.text_encoders import EncodedPrompt

TSC = ResamplerConfig(llm_dim=48, width=64, layers=1, num_latents=8, time=TimeConfig(32, 40))
SIGMAS = torch.tensor([14.0, 7.0, 3.0, 1.0, 0.3, 0.0])
GPU = torch.device("meta")  # stands for one: a device with another name than the stores'

READS = {"tolist", "item", "__bool__", "__float__", "__int__", "__index__", "nonzero", "equal"}
READS |= {"allclose", "numpy", "cpu", "any", "all"}


class Waits(TorchFunctionMode):
    """Counts what reads a tensor back, and what moves one to another device."""

    def __init__(self):
        super().__init__()
        self.reads, self.moves = [], []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in READS:
            self.reads.append(name)
        if name in ("to", "copy_", "cuda") and result.device != args[0].device:
            self.moves.append(name)
        return result


class Model:
    """What the wrapper asks of a BaseModel."""

    def __init__(self):
        from comfy.model_sampling import ModelSamplingDiscrete

        self.model_sampling = ModelSamplingDiscrete()


@pytest.fixture
def pair(tmp_path):
    """Positive and negative beside other tokens, their contexts kept for the whole schedule."""
    tiny_models.import_host()
    from ella_core.checkpoint import save_connector
    from ella_core.comfy.editor.report import Report
    from ella_core.comfy.llm.embeds import LLMEmbeds
    from ella_core.comfy.sampling.conditioning import make_pair
    from ella_core.comfy.sampling.connector import load_ella
    from ella_core.comfy.sampling.timesteps import sigma_to_timestep
    from ella_core.connectors import build_connector

    connector = build_connector(TSC)
    connector.reset_parameters()
    save_connector(connector, tmp_path / "x.safetensors")
    ella = load_ella(tmp_path / "x.safetensors")
    parts = [(EncodedPrompt(torch.randn(1, n, 48), tokens=n), 0.5) for n in (3, 5, 2)]
    embeds = LLMEmbeds(tuple(parts[:2]), (), "llm"), LLMEmbeds(tuple(parts[2:]), (), "llm")
    clip = [[torch.randn(1, 4, 64), {}]]
    made = make_pair(ella, embeds, (clip, clip), Report(None, []))
    timesteps = sigma_to_timestep(Model().model_sampling, SIGMAS[:-1]).tolist()
    ella.store.prepare([part for part, _ in parts], timesteps, torch.device("cpu"))
    return made


def conds_of(pair):
    from comfy.conds import CONDCrossAttn

    return [
        [{"model_conds": {**options["model_conds"], "c_crossattn": CONDCrossAttn(tensor)}}]
        for ((tensor, options),) in pair
    ]


def calls(pair, sigmas, device):
    """The waits of each model call of one run."""
    from ella_core.comfy.sampling import wrappers
    from ella_core.comfy.sampling.run import Run, current_run

    options = {"transformer_options": {"sample_sigmas": SIGMAS}}
    token = current_run.set(Run())
    try:
        for sigma in sigmas:
            x = torch.empty(2, 4, 8, 8, device=device)
            with Waits() as waits:
                conds = wrappers._calc_cond_batch(
                    lambda model, conds, *_: conds, Model(), conds_of(pair), x, sigma, options
                )
            for (cond,) in conds:
                context = cond["model_conds"]["c_crossattn"].cond
                assert (context.shape[1:], context.device) == ((12, 64), device)
            yield waits
    finally:
        current_run.reset(token)


def test_a_call_on_the_schedule_reads_its_sigma_and_moves_nothing(pair):
    first, *others = calls(pair, [sigma.expand(2) for sigma in SIGMAS[:-1]], GPU)
    # Two prompts, and the tokens beside both.
    assert (first.reads, len(first.moves)) == (["tolist"], 3)
    assert [(waits.reads, waits.moves) for waits in others] == [(["tolist"], [])] * 4


def test_the_first_call_has_the_whole_schedule_computed(pair):
    """Also if an earlier schedule began with the same timestep: it is fetched at once."""
    from ella_core.comfy.sampling.context import prompts_of
    from ella_core.comfy.sampling.timesteps import sigma_to_timestep
    from ella_core.store import ContextStore

    prompts = [prompt for ((tensor, _),) in pair for prompt in prompts_of(tensor)]
    parts = [part for prompt in prompts for part in prompt.parts]
    cpu, ella = torch.device("cpu"), prompts[0].ella
    ella.store = ContextStore(ella.connector, cpu)
    timesteps = sigma_to_timestep(Model().model_sampling, SIGMAS[:-1]).tolist()
    ella.store.prepare(parts, timesteps[:1], cpu)
    list(calls(pair, [SIGMAS[:1]], cpu))
    assert ella.store.has(parts, timesteps)


def test_a_call_that_takes_a_pass_reads_no_more(pair):
    """Neither does one off the schedule, nor one whose samples are at different sigmas."""
    sigmas = [torch.tensor(pair) for pair in ([14.0, 14.0], [5.0, 5.0], [2.0, 0.2])]
    for waits in calls(pair, sigmas, torch.device("cpu")):
        assert (waits.reads, waits.moves) == (["tolist"], [])
