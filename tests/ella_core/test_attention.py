"""What the latents attend to, against attention computed naively."""

from itertools import product

import torch

from ella_core.checkpoint import load_connector
from ella_core.connectors.attention import attention_to_text
from support import golden_weights
from support.models import write_tsc
from support.reference import tsc

HEADS, LATENTS, LENGTH, LAYERS, WIDTH = 8, 6, 11, 3, 64
TIMESTEPS = (999, 500, 1)


def naive(weights, name, q, kv):
    """(H, N, L): one number at a time, from the released layout's one matrix of q, k and v."""
    matrix, bias = weights[f"{name}.in_proj_weight"], weights[f"{name}.in_proj_bias"]
    size = WIDTH // HEADS
    out = torch.zeros(HEADS, len(q), len(kv))
    for head in range(HEADS):
        rows = slice(head * size, (head + 1) * size)
        of_q, of_k = (slice(part * WIDTH + rows.start, part * WIDTH + rows.stop) for part in (0, 1))
        queries = q @ matrix[of_q].T + bias[of_q]
        keys = kv @ matrix[of_k].T + bias[of_k]
        for n, query in enumerate(queries):
            scores = torch.stack([(query * key).sum() / size**0.5 for key in keys])
            exponents = (scores - scores.max()).exp()
            out[head, n] = exponents / exponents.sum()
    return out


def test_equals_naive_attention(tmp_path):
    dims = {"width": WIDTH, "layers": LAYERS, "num_latents": LATENTS, "llm_dim": 48}
    path = tmp_path / "tsc.safetensors"
    weights = write_tsc(path, time_channels=32, time_dim=40, **dims)
    features = torch.from_numpy(golden_weights.llm_features(1, LENGTH, 48))
    connector = load_connector(path)
    before = connector(features, torch.tensor([500]))
    expected = torch.zeros(len(TIMESTEPS), LAYERS, HEADS, LATENTS, LENGTH)
    for at, timestep in enumerate(TIMESTEPS):
        seen = []
        tsc(weights, features, timestep, seen=seen)
        assert len(seen) == LAYERS
        for block, (name, q, kv) in enumerate(seen):
            every = naive(weights, name, q, kv)
            assert torch.allclose(every.sum(-1), torch.ones(()), atol=1e-5)
            expected[at, block] = every[..., LATENTS:]  # the latents' share is not in it
    for chosen in product((None, 0, LAYERS - 1), (None, HEADS - 1), (None, 0, LATENTS - 1)):
        found = attention_to_text(connector, features, TIMESTEPS, *chosen)
        wanted = expected
        for dim, index in enumerate(chosen, 1):
            wanted = wanted if index is None else wanted.narrow(dim, index, 1)
        difference = found - wanted.mean(dim=(1, 2, 3))
        assert difference.abs().max() < 1e-5, chosen
    assert torch.equal(connector(features, torch.tensor([500])), before)  # no hook is left
