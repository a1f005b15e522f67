"""A model call waits for a GPU once. Reading a tensor back waits, and so does an unpinned copy.

Nothing waits on a CPU, but the same functions of torch are called, and can be counted.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode

import tiny_models
from ella_core.config import ResamplerConfig, TimeConfig
from ella_core.text_encoders import EncodedPrompt

TSC = ResamplerConfig(llm_dim=48, width=64, layers=1, num_latents=8, time=TimeConfig(32, 40))
SIGMAS = torch.tensor([14.0, 7.0, 3.0, 1.0, 0.3, 0.0])
CPU, GPU = torch.device("cpu"), torch.device("cuda")

READS = {"tolist", "item", "__float__", "__int__", "__index__", "nonzero", "equal", "allclose"}
READS |= {"numpy", "cpu"}


class Waits(TorchFunctionMode):
    """A GPU for the code under test, which counts what has to wait for it.

    Its tensors are on torch's device without memory, and say that they are on a GPU. A copy from
    there gives zeros.
    """

    def __init__(self):
        super().__init__()
        self.reads, self.copies = [], []
        self._pinned = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if func == torch.Tensor.device.__get__:
            device = func(*args)
            return GPU if device.type == "meta" else device
        if name == "pin_memory":
            assert not args[0].is_meta
            pinned = args[0].clone()
            self._pinned.add(pinned)
            return pinned
        on_gpu = isinstance(args[0], torch.Tensor) and args[0].is_meta if args else False
        if name in READS or (name == "__bool__" and on_gpu):
            self.reads.append(name)
        if name == "to" and any(a == CPU for a in args[1:]) and on_gpu:
            self.copies.append("from the GPU")
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        if GPU in (*args[1:], kwargs.get("device")):
            assert name in ("to", "arange", "empty"), f"{name} with a device is not counted here"
            waits = args[0] not in self._pinned or not kwargs.pop("non_blocking", False)
            if name == "to" and waits and not on_gpu:
                self.copies.append("to the GPU")
            args = tuple("meta" if a == GPU else a for a in args)
            kwargs = {key: "meta" if value == GPU else value for key, value in kwargs.items()}
        return func(*args, **kwargs)


class Model:
    """The part of a BaseModel that the wrapper uses."""

    def __init__(self):
        from comfy.model_sampling import ModelSamplingDiscrete

        self.model_sampling = ModelSamplingDiscrete()


@pytest.fixture
def pair(tmp_path):
    """Positive and negative beside other tokens."""
    tiny_models.import_host()
    from ella_core.checkpoint import save_connector
    from ella_core.comfy.editor.report import Report
    from ella_core.comfy.llm.embeds import LLMEmbeds
    from ella_core.comfy.sampling.conditioning import make_pair
    from ella_core.comfy.sampling.connector import load_ella
    from ella_core.connectors import build_connector

    connector = build_connector(TSC)
    connector.reset_parameters()
    save_connector(connector, tmp_path / "x.safetensors")
    ella = load_ella(tmp_path / "x.safetensors")
    parts = [(EncodedPrompt(torch.randn(1, n, 48), tokens=n), 0.5) for n in (3, 5, 2)]
    embeds = LLMEmbeds(tuple(parts[:2]), (), "llm"), LLMEmbeds(tuple(parts[2:]), (), "llm")
    clip = [[torch.randn(1, 4, 64), {}]]
    return make_pair(ella, embeds, (clip, clip), Report(None, []))


def conds_of(pair):
    from comfy.conds import CONDCrossAttn

    return [
        [{"model_conds": {**options["model_conds"], "c_crossattn": CONDCrossAttn(tensor)}}]
        for ((tensor, options),) in pair
    ]


def calls(pair, sigmas, device):
    """The waits of each model call of one run, and those of its end."""
    from ella_core.comfy.sampling import wrappers
    from ella_core.comfy.sampling.context import prompts_of
    from ella_core.comfy.sampling.run import sampling_run

    (prompt, *_) = prompts_of(pair[0][0][0])
    prompt.ella.connector.to("meta" if device == GPU else device)  # as ComfyUI does before a run
    options = {"transformer_options": {"sample_sigmas": SIGMAS}}
    seen = []
    with sampling_run() as run:
        for sigma in sigmas:
            with Waits() as waits:
                x = torch.empty(2, 4, 8, 8, device=device)
                conds = wrappers._calc_cond_batch(
                    lambda model, conds, *_: conds, Model(), conds_of(pair), x, sigma, options
                )
                for (cond,) in conds:
                    context = cond["model_conds"]["c_crossattn"].cond
                    assert (context.shape[1:], context.device) == ((12, 64), device)
            seen.append((waits.reads, waits.copies))
        with Waits() as waits:
            for store in run.stores:
                store.settle()
        seen.append((waits.reads, waits.copies))
    return seen


ONE = (["tolist"], [])  # the sigma


def test_every_call_on_the_schedule_waits_once(pair):
    sigmas = [sigma.expand(2) for sigma in SIGMAS[:-1]]
    *new, end = calls(pair, sigmas, GPU)
    assert new == [ONE] * 5  # the first one takes the pass for the whole schedule
    assert end == ([], ["from the GPU"] * 3)  # once a prompt
    *kept, end = calls(pair, sigmas, GPU)
    assert kept == [ONE] * 5
    assert end == ([], [])


def test_a_call_off_the_schedule_waits_once(pair):
    """Neither the pass that it takes nor samples at different sigmas add to it."""
    sigmas = [torch.tensor(pair) for pair in ([14.0, 14.0], [5.0, 5.0], [2.0, 0.2], [5.0, 5.0])]
    assert calls(pair, sigmas, GPU)[:-1] == [ONE] * 4


@pytest.mark.parametrize("room", [0, 5 * 8 * 64 * 4])
def test_contexts_without_room_on_the_gpu_are_put_back_at_once(pair, room):
    """One prompt's schedule has room, or none."""
    from ella_core.comfy.sampling.context import prompts_of

    (prompt, *_) = prompts_of(pair[0][0][0])
    prompt.ella.store._room = room
    sigmas = [sigma.expand(2) for sigma in SIGMAS[:-1]]
    first, *others, end = calls(pair, sigmas, GPU)
    assert first == (["tolist"], ["from the GPU"] * 3)
    assert (others, end) == ([ONE] * 4, ([], []))


def test_the_first_call_has_the_whole_schedule_computed(pair):
    """Also if an earlier schedule began with the same timestep."""
    from ella_core.comfy.sampling.context import prompts_of
    from ella_core.comfy.sampling.timesteps import sigma_to_timestep

    prompts = [prompt for ((tensor, _),) in pair for prompt in prompts_of(tensor)]
    parts = [part for prompt in prompts for part in prompt.parts]
    store = prompts[0].ella.store
    timesteps = sigma_to_timestep(Model().model_sampling, SIGMAS[:-1]).tolist()
    store.prepare(parts, timesteps[:1], CPU)
    calls(pair, [SIGMAS[:1]], CPU)
    assert store.has(parts, timesteps)


def test_on_the_cpu_a_call_reads_its_sigma_and_copies_nothing(pair):
    sigmas = [torch.tensor(pair) for pair in ([14.0, 14.0], [5.0, 5.0], [2.0, 0.2])]
    assert calls(pair, sigmas, CPU) == [*[ONE] * 3, ([], [])]
