"""The parts of a run, and checks that would otherwise fail after an hour."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..checkpoint import load_connector
from ..config import PLAIN, ConnectorMetadata
from ..connectors import Connector, build_connector
from ..errors import EllaError
from .bases import Base, load_base
from .checkpoints import Checkpoints
from .config import TrainConfig
from .contract import Contract, check_config, llm_identity, weights_identity
from .disk import free_gigabytes
from .encoding import CaptionEncoder, encode_pixels
from .precompute import make_contract
from .sources import Source, open_sources

_PAPER_LR = {"sd15": 1e-4, "sdxl": 1e-5}


class OnlineEncoders:
    """LLM and VAE that encode while training."""

    def __init__(self, config: TrainConfig, vae: Any, device: torch.device) -> None:
        self._vae = vae.to(device, torch.float32)
        self.captions = CaptionEncoder(config.llm, config.text, device)

    def pixels(self, pixels_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `encode_pixels`."""
        return encode_pixels(self._vae, pixels_B3HW)


@dataclass(frozen=True)
class Parts:
    """The parts of a run, checked against each other.

    Attributes:
        base: the frozen diffusion model.
        connector: with its initial weights, in float32.
        contract: settings that features and latents are made with, cached or not.
        sources: training data.
        held_out: validation data.
        encoders: None where the data are cached.
        lr: peak learning rate.
    """

    base: Base
    connector: Connector
    contract: Contract
    sources: Sequence[Source]
    held_out: Sequence[Source]
    encoders: OnlineEncoders | None
    lr: float


def assemble(config: TrainConfig, device: torch.device) -> Parts:
    """Load and build the parts of a run.

    Raises:
        EllaError: a part is missing, or two do not fit together.
    """
    if not config.data.sources:
        raise EllaError("There is no data to train on. Set data.sources.")
    base = load_base(config.base)
    sources = open_sources(config.data.sources, config.data)
    held_out = open_sources(config.validation.sources, config.data)
    contract = sources[0].contract
    encoders = None
    if config.sheet.prompts and base.vae is None:
        raise EllaError(
            f"{config.base.path} holds no VAE, which draws the sheets. Leave out sheet.prompts, or "
            f"set base.path to a file with a VAE."
        )
    if contract is None:
        if base.vae is None:
            raise EllaError(f"{config.base.path} holds no VAE, which encodes the pictures.")
        encoders = OnlineEncoders(config, base.vae, device)
        contract = make_contract(config, encoders.captions, base.vae)
    else:
        _check_contract(contract, config, base, held_out)
    connector = _connector(config, contract)
    _check_widths(connector, base, contract, config)
    _check_data(config, sources, connector)
    _check_disk(config, connector)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    if config.loss.objective == "noise":
        base.unet.to(device, dtype)
        if config.activation_checkpointing:
            base.unet.enable_gradient_checkpointing()
    lr = _PAPER_LR[base.family] if config.optimiser.lr is None else config.optimiser.lr
    return Parts(base, connector, contract, sources, held_out, encoders, lr)


def _connector(config: TrainConfig, contract: Contract) -> Connector:
    if config.connector.init_from:
        connector = load_connector(config.connector.init_from, dtype=torch.float32)
        if connector.recipe(contract.llm_type) != PLAIN:
            raise EllaError(
                f"{config.connector.init_from} is an LLM adapter, which wants prompts read within "
                f"a template, and training reads captions as they stand. Set connector.init_from "
                f"to a connector of ELLA's kind."
            )
    else:
        torch.manual_seed(config.seed)
        connector = build_connector(config.connector_config)
        connector.reset_parameters()
    connector.metadata = ConnectorMetadata(
        trained_tokens=contract.tokens,
        llm=contract.llm,
        llm_type=contract.llm_type,
        llm_layers=contract.llm_layers,
        base=config.base.path.name,
        licence=config.licence,
    )
    return connector.train().requires_grad_(True)


def _check_contract(
    contract: Contract, config: TrainConfig, base: Base, held_out: Sequence[Source]
) -> None:
    name = "of data.sources"
    check_config(contract, config, name)
    if base.vae is not None:
        same_vae = dataclasses.replace(contract, vae_identity=weights_identity(base.vae))
        same_vae.check(contract, name)
    if config.llm.path and config.llm.path.exists():
        identity = llm_identity(config.llm.path)
        dataclasses.replace(contract, llm_identity=identity).check(contract, name)
    for source in held_out:
        if source.contract is None:
            raise EllaError("The training data are cached, validation.sources are not. Set cache.")
        contract.check(source.contract, "of validation.sources")


def _check_widths(
    connector: Connector, base: Base, contract: Contract, config: TrainConfig
) -> None:
    if connector.llm_dim != contract.llm_dim:
        raise EllaError(
            f"The connector reads features of width {connector.llm_dim}, and {contract.llm} makes "
            f"{contract.llm_dim}. Set llm_dim of the connector to {contract.llm_dim}, or choose "
            f"another LLM."
        )
    if connector.context_dim != base.context_dim:
        raise EllaError(
            f"The connector's context has width {connector.context_dim}, and the U-Net of "
            f"{config.base.path.name} takes {base.context_dim}. Set the connector's width or "
            f"context_dim to {base.context_dim}, or choose another base."
        )
    if connector.pooled_dim != base.vector_dim:
        raise EllaError(
            f"The connector's pooled_dim is {connector.pooled_dim}, and {config.base.path.name} "
            f"({base.family}) takes {base.vector_dim}. Set pooled_dim of the connector to that."
        )


def _check_data(config: TrainConfig, sources: Sequence[Source], connector: Connector) -> None:
    count = sum(sum(sizes) for source in sources for sizes in source.buckets.values())
    if count < config.batch:
        raise EllaError(
            f"The data hold {count} pictures, fewer than a batch of {config.batch}. "
            f"Lower batch, or add pictures."
        )
    if config.loss.objective != "align":
        return
    if not all(source.has_context for source in sources):
        raise EllaError(
            "The objective align needs a target for each picture. Put a .context.npy beside each "
            "and run ella-train precompute; then set cache of the sources."
        )
    if config.text.empty and not all(source.has_empty_context for source in sources):
        raise EllaError(
            "The objective align needs a target for the empty caption. Put empty.context.npy into "
            "the folder of the pictures and precompute again, or set text.empty to 0."
        )


def checkpoint_bytes(config: TrainConfig, connector: Connector) -> int:
    """Return how much room the tensors of a checkpoint take."""
    # To go on: weights, AdamW's two moments, the average. For use: the connector's file.
    copies = 4 + (config.optimiser.ema is not None)
    return 4 * copies * sum(p.numel() for p in connector.parameters())


def _check_disk(config: TrainConfig, connector: Connector) -> None:
    config.run.mkdir(parents=True, exist_ok=True)
    keep = config.checkpoint.keep
    there = len(Checkpoints(config.run / "checkpoints").all())
    missing = keep + 1 - min(there, keep)  # the oldest is deleted once the newest is whole
    needed = missing * checkpoint_bytes(config, connector) / 1e9
    free = free_gigabytes(config.run)
    if free < needed:
        raise EllaError(
            f"{free:.2f} GB are free on the disk of {config.run}, and {missing} more checkpoints "
            f"take {needed:.2f} GB. Make room, or lower checkpoint.keep."
        )
