"""Edits that other nodes make to a context hold at every timestep."""

import copy

import pytest
import torch

import tiny_models

WIDTH = 16
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def contexts():
    tiny_models.import_host()
    from ella_core.comfy.sampling import context

    return context


@pytest.fixture
def make(contexts):
    """Make the TimestepContext of a prompt whose contexts are drawn, each from its timestep."""
    from ella_core.comfy.sampling.prompt import TimestepPrompt

    def make(seed, tokens=4):
        def at(timestep):
            generator = torch.Generator().manual_seed(1000 * seed + timestep)
            return torch.randn(1, tokens, WIDTH, generator=generator)

        prompt = TimestepPrompt(None, None, at(499), None)
        prompt.at = at
        return contexts.TimestepContext.of(at(499), prompt)

    return make


def replayed(contexts, context, timestep):
    place = contexts.Place(CPU)
    return contexts.replay(context.origin, lambda prompt: prompt.at(timestep), place)


def written_into_a_buffer(a, b):
    buffer = torch.zeros(3, 6, WIDTH)
    buffer[0, :4] = a[0]
    buffer[2, 2:] = b[0]
    return buffer


def written_in_place(a, b):
    a[:, 1:3] *= 2
    a.mul_(3).add_(b)
    return a


def slerp(a, b):
    angle = torch.acos((a / a.norm() * (b / b.norm())).sum())
    return (torch.sin(0.3 * angle) * a + torch.sin(0.7 * angle) * b) / torch.sin(angle)


EDITS = {
    "concat": lambda a, b: torch.cat((a, b), 1),
    "batch": lambda a, b: torch.cat([a, b, a]),
    "stacked rows": lambda a, b: torch.stack([a[0], b[0]]),
    "average": lambda a, b: torch.mul(a, 0.3) + torch.mul(b[:, :4], 0.7),
    "slerp": slerp,
    "fp16 and back": lambda a, b: a.half().float() + 0 * b,
    "padded": lambda a, b: torch.nn.functional.pad(torch.cat((a, b)), (0, 0, 0, 73)),
    "permuted and sliced": lambda a, b: torch.cat([a, b, a])[[2, 1, 0]][1:],
    "chunks": lambda a, b: torch.cat(torch.cat([a, b]).chunk(2), dim=1),
    "split and unbound": lambda a, b: torch.stack([*torch.cat([a, b]).unbind(0)][::-1]),
    "repeated": lambda a, b: torch.cat([a, b]).repeat(2, 1, 1),
    "repeated to a batch": lambda a, b: a.expand(3, -1, -1).clone() - b,
    "in a buffer": written_into_a_buffer,
    "in place": written_in_place,
    "copied into memory of another dtype": lambda a, b: torch.empty_like(a).half().copy_(a) + b,
    "deep copy": lambda a, b: copy.deepcopy(torch.cat([a, b])),
    "with other numbers": lambda a, b: torch.cat([a, torch.ones(1, 3, WIDTH)], 1)[:, 2:] * 2,
    "named device": lambda a, b: torch.cat([a, b]).to("cpu").to(device=CPU).cpu().contiguous(),
    "a long chain": lambda a, b: sum([a] * 2000, b),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_edit_is_repeated_at_every_timestep(contexts, make, edit):
    a, b = make(1), make(2)
    at = [context.origin.at for context in (a, b)]
    edited = edit(a, b)
    assert isinstance(edited, contexts.TimestepContext)
    for timestep in (499, 0, 999):
        expected = edit(at[0](timestep), at[1](timestep))
        assert torch.equal(replayed(contexts, edited, timestep), expected)
    assert torch.equal(contexts.plain(edited), edit(at[0](499), at[1](499)))
    assert torch.equal(replayed(contexts, edited, 7), edit(at[0](7), at[1](7)))  # twice the same


def test_what_takes_only_the_shape_is_no_context(contexts, make):
    a = make(1)
    for other in (torch.zeros_like(a), torch.randn_like(a), a.new_zeros(3), torch.ones(4)):
        assert contexts.prompts_of(other) == []
    assert isinstance(a.shape, torch.Size)
    assert a.dtype == torch.float32


def test_a_context_that_reaches_a_layer_takes_its_value_there(contexts, make):
    from ella_core.errors import EllaError

    a, layer = make(1), torch.nn.Linear(WIDTH, 5)
    edited = torch.cat([a, a]).half().float()
    with pytest.raises(EllaError, match="MODEL that was not prepared for it"):
        layer(edited)
    token = contexts.current_value.set(lambda context: replayed(contexts, context, 7))
    try:
        found = layer(edited)
    finally:
        contexts.current_value.reset(token)
    assert type(found) is torch.Tensor
    at_7 = a.origin.at(7)
    assert torch.equal(found, layer(torch.cat([at_7, at_7]).half().float()))


def test_arguments_are_moved_once(contexts):
    place, tensor = contexts.Place(torch.device("meta")), torch.ones(3)
    moved = place.moved(tensor)
    assert moved.device.type == "meta"
    assert place.moved(tensor) is moved
    assert place.moved(moved) is moved
    assert place.moved(CPU) == place.moved("cuda:0") == torch.device("meta")
    assert place.moved("mean") == "mean"


def test_the_prompts_of_an_edit_come_in_order_and_once(contexts, make):
    a, b = make(1), make(2)
    edited = torch.cat([a, torch.ones(1, 3, WIDTH), b, a * 2], 1)
    assert contexts.prompts_of(edited) == [a.origin, b.origin]
    assert contexts.prompts_of(torch.ones(3)) == contexts.prompts_of(None) == []
