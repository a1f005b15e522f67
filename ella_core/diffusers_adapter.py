"""ELLA in diffusers: a stock pipeline whose context is made anew at each step's timestep.

    connector = load_connector(Path("ella-sd1.5-tsc-t5xl.safetensors"))
    encoder = load_text_encoder(Path("flan-t5-xl"), torch.float32)
    prompt, negative = encoder.encode(["a red fox in deep snow", ""])
    with attached(pipe, connector) as embed:
        image = pipe(**embed([prompt], [negative])).images[0]

The pipeline is handed placeholders that name their prompts, and carries them wherever it carries
embeddings: through guidance, batches and ControlNets. A hook on the U-Net replaces them by the
connector's context at the very timestep that the U-Net gets, so any scheduler is right.

Shapes: B rows of the U-Net's batch, L LLM tokens, D LLM width, N context tokens, C context width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from .connectors import Connector
from .errors import EllaError
from .text_encoders import EncodedPrompt

_BITS = 16  # channels of a placeholder that hold its prompt's number; the others mark it
_MARK = -1.0

Embed = Callable[[Sequence[EncodedPrompt], Sequence[EncodedPrompt]], dict[str, torch.Tensor]]


@contextmanager
def attached(pipeline: Any, connector: Connector) -> Iterator[Embed]:
    """Condition a pipeline with a connector as long as the context lasts.

    Prompts that the pipeline embeds itself are left as they are.

    Args:
        pipeline: a Stable Diffusion 1.5 or SDXL pipeline of diffusers, with or without ControlNet.
        connector: on the device to compute on.

    Yields:
        Prompts and negative prompts, equally many -> the pipeline's arguments.

    Raises:
        EllaError: the U-Net takes a context of another width.
    """
    width = pipeline.unet.config.cross_attention_dim
    if width != connector.context_dim:
        raise EllaError(
            f"The U-Net takes a context of width {width}, and the connector makes "
            f"{connector.context_dim}. Choose a connector that was trained for this base."
        )
    hook = _Hook(connector)
    models = [pipeline.unet, *_controlnets(pipeline)]
    with ExitStack() as stack:
        for model in models:
            handle = model.register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield hook.embed


class _Hook:
    """Replaces the placeholders that it has given out."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._prompts: list[EncodedPrompt] = []

    def embed(
        self, prompts: Sequence[EncodedPrompt], negatives: Sequence[EncodedPrompt]
    ) -> dict[str, torch.Tensor]:
        """Make the pipeline's arguments."""
        embeds = {
            "prompt_embeds": self._placeholders(prompts),
            "negative_prompt_embeds": self._placeholders(negatives),
        }
        if self._connector.pooled_dim is not None:
            pooled = torch.zeros(len(prompts), self._connector.pooled_dim)
            embeds |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": pooled}
        return embeds

    def _placeholders(self, prompts: Sequence[EncodedPrompt]) -> torch.Tensor:
        """Return (P, 1, C): the prompts' numbers in binary, exact in any dtype."""
        first = len(self._prompts)
        self._prompts += prompts
        numbers_P1 = torch.arange(first, len(self._prompts))[:, None]
        placeholders = torch.full((len(prompts), 1, self._connector.context_dim), _MARK)
        placeholders[:, 0, :_BITS] = (numbers_P1 >> torch.arange(_BITS) & 1).float()
        return placeholders

    @torch.no_grad()
    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Replace the context before a pass of the U-Net, whose arguments these are."""
        placeholders_BNC = kwargs["encoder_hidden_states"]
        if not (placeholders_BNC[..., _BITS:] == _MARK).all():
            return args, kwargs
        timestep = float(kwargs["timestep"] if "timestep" in kwargs else args[1])
        if not 0 <= timestep < 1000:
            raise EllaError(
                f"The scheduler gives the U-Net the timestep {timestep:g}, and the connector knows "
                f"0 to 999. Choose a scheduler of discrete timesteps, such as DDIM or Euler."
            )
        bits_B16 = placeholders_BNC[:, 0, :_BITS].long()
        numbers = (bits_B16 << torch.arange(_BITS, device=bits_B16.device)).sum(dim=1).tolist()
        return args, {**kwargs, **self._conditioning(numbers, timestep, placeholders_BNC, kwargs)}

    def _conditioning(
        self, numbers: list[int], timestep: float, like: torch.Tensor, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        context_of = {n: self._context(self._prompts[n], timestep) for n in set(numbers)}
        rows = [context_of[n] for n in numbers]
        contexts_BNC = pad_sequence(rows, batch_first=True)
        changed: dict[str, Any] = {"encoder_hidden_states": contexts_BNC.to(like)}
        lengths = torch.tensor([len(row) for row in rows])
        if len(set(lengths.tolist())) > 1:  # of an MLP's contexts, which are as long as the prompts
            mask = torch.arange(contexts_BNC.shape[1]) < lengths[:, None]
            changed["encoder_attention_mask"] = mask.to(like.device)
        if self._connector.pooled_dim is not None:
            first_BNC = contexts_BNC[:, : self._connector.num_tokens]  # of several chunks
            pooled = self._connector.pooled(first_BNC).to(like)
            changed["added_cond_kwargs"] = {**kwargs["added_cond_kwargs"], "text_embeds": pooled}
        return changed

    def _context(self, prompt: EncodedPrompt, timestep: float) -> torch.Tensor:
        """Return (N, C) in float32, whatever the U-Net computes in."""
        weight = next(self._connector.parameters())
        features = prompt.features.to(weight.device, weight.dtype)
        mask = None if prompt.mask is None else prompt.mask.to(weight.device)
        at = torch.tensor([timestep], device=weight.device)
        context: torch.Tensor = self._connector(features, at, mask)
        return context.flatten(0, 1).float()


def _controlnets(pipeline: Any) -> list[Any]:
    """Return a pipeline's ControlNets; several are in one `MultiControlNetModel`."""
    controlnet = getattr(pipeline, "controlnet", None)
    if controlnet is None:
        return []
    return list(getattr(controlnet, "nets", [controlnet]))
