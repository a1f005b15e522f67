"""The protocols by name."""

from collections.abc import Sequence

from .answers import Answer, Key
from .compbench import score_blip_vqa
from .dpg import PROTOCOLS as DPG_PROTOCOLS
from .dpg import score_dpg
from .questions import Row
from .scores import Score

PROTOCOLS = (*DPG_PROTOCOLS, "blip-vqa")


def score_answers(
    rows: Sequence[Row], answers: dict[Key, Answer], protocol: str, pictures: int
) -> Score:
    """Score the answers to a file's questions under one of `PROTOCOLS`.

    Raises:
        EllaError: Answers are missing, or the protocol can't use them.
    """
    if protocol == "blip-vqa":
        return score_blip_vqa(rows, answers, pictures)
    return score_dpg(rows, answers, protocol, pictures)
