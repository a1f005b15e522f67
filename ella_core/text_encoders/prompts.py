"""Prompts with markup: `(words:1.3)` weighs words, and a long prompt may be cut into chunks.

A layer in front of `TextEncoder` and `PromptTokenizer`, which read raw text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch.nn.utils.rnn import pad_sequence

from ..config import CHUNK_TOKENS, PLAIN, ReadingRecipe
from ..errors import EllaError
from .chunks import chunks
from .encoder import EncodedPrompt, TextEncoder
from .tokenizer import PromptCounts, PromptTokenizer, recipe_length
from .tokens import whole_characters
from .weights import parse, token_weights


@dataclass(frozen=True)
class WeightedPiece:
    """Token ids that the LLM reads in one go, with their weights.

    Attributes:
        ids: token ids, special ones and those of a chat template included.
        weights: one for each token from `start` on; empty if no word of the prompt has one.
        start: number of tokens that the connector reads before them.
        skipped: number of tokens in front that it does not read.
        offsets: where each token from `start` on lies in the prompt without markup: its first
            character and the one behind its last; empty where the tokenizer can't say.
    """

    ids: list[int]
    weights: list[float]
    start: int
    skipped: int
    offsets: list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class TokenisedPrompt(PromptCounts):
    """A prompt whose markup has been read.

    Attributes:
        text: the prompt without markup.
        pieces: what is read one after the other.
        has_weights: whether a word in it has a weight other than 1.
        length: tokens that each piece is filled up to; 0 for none.
    """

    text: str
    pieces: list[WeightedPiece]
    has_weights: bool
    length: int


def tokenise_prompt(
    tokenizer: PromptTokenizer,
    text: str,
    max_length: int = 0,
    chunked: bool = False,
    recipe: ReadingRecipe = PLAIN,
    markup: bool = True,
) -> TokenisedPrompt:
    """Read the markup of a prompt and cut it into pieces that the LLM can read.

    The arguments and errors are those of `encode_prompt`.
    """
    tokenizer.check_length(max_length)
    whole = whole_characters(text)
    plain, weights = parse(whole) if markup else (whole, [1.0] * len(whole))
    has_weights = any(weight != 1 for weight in weights)
    texts, chunk_length = [plain], 0
    if chunked:
        wanted = max_length or recipe.max_tokens or CHUNK_TOKENS
        chunk_length = recipe_length(recipe, wanted, tokenizer.longest(recipe))
        room = tokenizer.room(recipe, chunk_length)
        texts = list(chunks(plain, lambda part: tokenizer.tokenise(part, recipe), room))
    pieces: list[WeightedPiece] = []
    tokens = dropped = begin = windows = 0
    for chunk in texts:
        end = begin + len(chunk)
        read = tokenizer.read(chunk, max_length, recipe)
        factors: list[float] = []
        if has_weights:
            factors = token_weights(chunk, weights[begin:end], read.encoding.starts)
        places = [(begin + start, begin + stop) for start, stop in read.encoding.offsets or []]
        pieces += [
            WeightedPiece(
                piece.ids,
                factors[piece.words],
                piece.start,
                piece.skipped,
                places[piece.words],
            )
            for piece in read.pieces
        ]
        tokens += read.tokens
        dropped += read.dropped
        windows = max(windows, len(read.pieces))
        begin = end
    return TokenisedPrompt(
        plain,
        pieces,
        has_weights,
        recipe_length(recipe, max_length, tokenizer.window) if recipe.padded else max_length,
        tokens=tokens,
        windows=windows,
        dropped=dropped,
        weighted=sum(weight != 1 for piece in pieces for weight in piece.weights),
        chunks=len(texts),
        chunk_length=chunk_length if len(texts) > 1 else 0,
    )


def encode_prompt(
    encoder: TextEncoder,
    text: str,
    max_length: int = 0,
    chunked: bool = False,
    on_piece: Callable[[int, int], None] = lambda done, of: None,
    recipe: ReadingRecipe = PLAIN,
    markup: bool = True,
) -> EncodedPrompt:
    """Read a prompt with markup.

    Args:
        encoder: the LLM.
        text: any text; empty is fine. `(words:1.3)` weighs words, see `weights.parse`.
        max_length: see `TextEncoder.encode`. A recipe without `padded` only cuts.
        chunked: read a prompt of more than `max_length` tokens (the recipe's `max_tokens`, or
            `CHUNK_TOKENS`, if that is 0) in chunks of at most so many, see `chunks.chunks`: each
            like a prompt of its own with the same `max_length`. Nothing is cut off.
        on_piece: called after each piece that was read, with the number of those and of all.
        recipe: how the connector wants it read, see `Connector.recipe`.
        markup: False reads the text as it stands, `(words:1.3)` included.

    Raises:
        EllaError: `max_length` is more than the LLM can read in one go, or too little for chunks;
            weights or chunks are asked of a tokenizer that can't say which words its tokens stand
            for; the LLM has no chat template for the recipe; or the features are not finite.
    """
    prompt = tokenise_prompt(encoder.tokenizer, text, max_length, chunked, recipe, markup)
    empty_D = _empty_feature(encoder, recipe) if prompt.has_weights else None
    features, masks = [], []
    for done, piece in enumerate(prompt.pieces, 1):
        features_BLD, mask_BL = _read_piece(encoder, piece, prompt.length, recipe)
        if empty_D is not None:
            start = piece.start + int(mask_BL[0].int().argmax())  # behind padding on the left
            end = start + len(piece.weights)
            _weigh(features_BLD[:, start:end], piece.weights, empty_D)
        features.append(features_BLD)
        masks.append(mask_BL)
        on_piece(done, len(prompt.pieces))
    counts = {field.name: getattr(prompt, field.name) for field in fields(PromptCounts)}
    if not recipe.max_tokens:
        joined_1LD = torch.cat(features, dim=1)
        return EncodedPrompt(joined_1LD, encoder.identity, recipe=recipe, **counts)
    features_KLD, mask_KL = _stack(features, masks)
    return EncodedPrompt(features_KLD, encoder.identity, mask_KL, recipe, **counts)


def _read_piece(
    encoder: TextEncoder, piece: WeightedPiece, length: int, recipe: ReadingRecipe
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features (1, L, D) and which of them are not padding (1, L)."""
    if recipe == PLAIN:
        features_BLD = encoder.last_hidden_state([piece.ids], length)
        return features_BLD, torch.ones(features_BLD.shape[:2], dtype=torch.bool)
    padding = max(0, length - len(piece.ids)) if recipe.padded else 0
    on_left = encoder.tokenizer.pads_on_left
    features_BLD = encoder.last_hidden_state([piece.ids], len(piece.ids) + padding, on_left)
    mask_BL = torch.ones(features_BLD.shape[:2], dtype=torch.bool)
    if padding:
        mask_BL[:, slice(padding) if on_left else slice(-padding, None)] = False
    return features_BLD[:, piece.skipped :], mask_BL[:, piece.skipped :]


def _stack(
    features: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Put pieces (1, L, D) of any length L on top of each other, with a mask where one is needed.

    Returns:
        (K, L, D) and (K, L) bool, None where all is to be read.
    """
    features_KLD = pad_sequence([rows[0] for rows in features], batch_first=True)
    mask_KL = pad_sequence([mask[0] for mask in masks], batch_first=True)
    return features_KLD, None if mask_KL.all() else mask_KL


def text_beyond(
    tokenizer: PromptTokenizer, text: str, limit: int, recipe: ReadingRecipe = PLAIN
) -> str:
    """Return the end of a prompt that does not fit into `limit` tokens, without markup.

    Empty if all of it fits, or if the tokenizer can't say where its tokens are.
    """
    plain, _ = parse(whole_characters(text))
    offsets = tokenizer.tokenise(plain, recipe).offsets or []
    return "".join(plain[start:] for start, _ in offsets[tokenizer.room(recipe, limit) :][:1])


def _empty_feature(encoder: TextEncoder, recipe: ReadingRecipe) -> torch.Tensor:
    """Return (D,), the mean feature of the empty prompt."""
    empty = encode_prompt(encoder, "", recipe=recipe)
    if empty.mask is not None:
        return empty.features[empty.mask].float().mean(dim=0)
    return empty.features.float().mean(dim=(0, 1))


def _weigh(features_BLD: torch.Tensor, weights: Sequence[float], empty_D: torch.Tensor) -> None:
    """Move features away from the empty prompt's, or towards it, in place.

    Weight 0 is the empty prompt, 1 the word, more overdrives it. Multiplying the features instead
    has almost no effect, because the connector puts them through a layer norm: with weights of the
    released size 1.3 on a few tokens changes its output by < 0.2 % that way, by 4 to 9 % this way
    (tests/ella_core/text_encoders/test_weighting.py).
    """
    places = [i for i, weight in enumerate(weights) if weight != 1]
    if not places:
        return
    weights_L1 = torch.tensor([[weights[i]] for i in places], device=features_BLD.device)
    away = empty_D + weights_L1 * (features_BLD[:, places].float() - empty_D)
    moved = away.to(features_BLD.dtype)
    if not moved.isfinite().all():
        raise EllaError(
            f"The weights of this prompt, up to {max(weights):g}, are too high for features in "
            f"{features_BLD.dtype}. Lower them in LLM Text Encode (ELLA); those of parentheses "
            f"inside each other multiply."
        )
    features_BLD[:, places] = moved
