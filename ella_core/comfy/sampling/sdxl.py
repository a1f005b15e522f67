"""What an SDXL reads beside the context: a pooled embedding, sizes and a crop."""

from dataclasses import asdict, dataclass

import torch

from ...errors import EllaError
from .conditioning import Conditioning


@dataclass(frozen=True)
class Sizes:
    """Sizes and crop that SDXL is conditioned on (arXiv 2307.01952, section 2.2), in pixels.

    Attributes:
        width: of the picture before it was scaled and cropped; 0 for the latent's.
        height: the same.
        crop_w: what was cut off at the left.
        crop_h: what was cut off at the top.
        target_width: of the picture as it is; 0 for `width`.
        target_height: the same.
    """

    width: int = 0
    height: int = 0
    crop_w: int = 0
    crop_h: int = 0
    target_width: int = 0
    target_height: int = 0


def with_options(
    conditioning: Conditioning, sizes: Sizes, clip: Conditioning | None, share: float
) -> Conditioning:
    """Return CONDITIONING with sizes and, if CLIP is given, with another pooled embedding.

    Args:
        conditioning: ELLA's or any other.
        sizes: replace those that it has.
        clip: of one prompt, whose pooled embedding (1, E) is mixed in; None for no mix.
        share: of CLIP in the mix: 0 leaves the conditioning's own embedding, 1 takes CLIP's. The
            mix holds at every timestep.

    Raises:
        EllaError: `clip` has several prompts, or no embedding, or one of another width.
    """
    # Without a size ComfyUI takes the latent's.
    given = {name: size for name, size in asdict(sizes).items() if size}
    made = []
    for context, options in conditioning:
        kept = {name: value for name, value in options.items() if name not in asdict(sizes)}
        if clip is not None:
            own = options.get("pooled_output")
            kept["pooled_output"] = _mixed(own, _pooled(clip), share)
        made.append([context, {**kept, **given}])
    return made


def _pooled(clip: Conditioning) -> torch.Tensor:
    if len(clip) != 1:
        raise EllaError(
            f"clip of ELLA SDXL Options got {len(clip)} conditionings combined. Connect CLIP Text "
            f"Encode to it directly."
        )
    pooled = clip[0][1].get("pooled_output")
    if not isinstance(pooled, torch.Tensor):
        raise EllaError(
            "clip of ELLA SDXL Options got a conditioning without a pooled embedding. Connect CLIP "
            "Text Encode to it, with the CLIP of an SDXL checkpoint."
        )
    return pooled


def _mixed(own: torch.Tensor | None, clip: torch.Tensor, share: float) -> torch.Tensor:
    if own is None or share == 1:
        return clip
    if own.shape[-1] != clip.shape[-1]:
        raise EllaError(
            f"The pooled embedding of clip is {clip.shape[-1]} wide, that of the conditioning "
            f"{own.shape[-1]}. Connect CLIP Text Encode with the CLIP of the same SDXL, or set "
            f"clip_pooled to 1 if the connector has no pooled embedding of its own."
        )
    # `own` first: where it is ELLA's, it takes down what is done with it.
    return own * (1 - share) + clip.to(own.device, own.dtype) * share
