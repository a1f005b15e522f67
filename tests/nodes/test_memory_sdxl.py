"""SD1.5 and SDXL in turn: no memory is left behind.

ELLA_TEST_RUNS=100 python -m pytest tests/nodes/test_memory_sdxl.py -s   the long run
"""

import os
import uuid

from comfyui import Server
from support.host import HOST_PACKS
from support.mixed_runs import mixed_run
from support.sdxl import CONTROLNET, ELLA_SDXL, GEMMA, T5GEMMA, SDXLGraph, models

TURN = 8  # runs after which all kinds have been, some of them with a prompt that was read before
RUNS = int(os.environ.get("ELLA_TEST_RUNS", 3 * TURN))
MOST = 0.02


def _plain(graph):
    return {}


def _control(graph):
    pair = {"positive": graph.conditioning[1], "negative": graph.conditioning[2]}
    given = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    net = graph.add("ControlNetLoader", control_net_name=CONTROLNET)
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0)
    made = graph.add("ControlNetApplyAdvanced", **pair, **given, control_net=net, image=image)
    return {"positive": made[0], "negative": made[1]}


def _clip(graph):
    clip = graph.plain(1, width=2048)
    given = {"conditioning": graph.conditioning[1], "clip": clip, "clip_pooled": 0.5}
    return {"positive": graph.add("ELLASDXLOptions", **given)}


KINDS = [
    ({"llm": GEMMA}, _plain),
    ({"llm": T5GEMMA}, _clip),
    ({"ella": ELLA_SDXL}, _control),
    ({"llm": GEMMA}, _control),
]


def sdxl_run(number, text):
    given, kind = KINDS[number % len(KINDS)]
    graph = SDXLGraph(text, "", **given)
    graph.save(graph.sample(record=False, steps=1, seed=number, **kind(graph)))
    return graph


def sd15_run(number, text):
    kinds = (0, 6, 8, 9)  # as it is, a LoRA, an area, a ControlNet
    return mixed_run(kinds[number % len(kinds)], text, "", steps=1, seed=number)


def growth(sizes):
    """Return by how much the later turns take more than the earlier ones, on average.

    The first turn is a warm-up. The others hold the same kinds of runs, and so the same memory.
    """
    turns = [sizes[i : i + TURN] for i in range(TURN, len(sizes) - TURN + 1, TURN)]
    averages = [sum(turn) / TURN for turn in turns]
    print(f"average MB of each {TURN} runs:", *(f"{size / 1e6:.1f}" for size in averages))
    half = len(averages) // 2
    return sum(averages[-half:]) / sum(averages[:half]) - 1


def test_memory_is_flat_over_runs_of_both(host, tmp_path):
    (tmp_path / "models").symlink_to(host.models, target_is_directory=True)
    packs = [HOST_PACKS / "ella_test_nodes"]
    with models(host), Server(tmp_path, ["--cpu"], packs) as server:

        def size_after(i, leak=0):
            text = "A blue dog." if i % TURN % 3 == 0 else f"A red cat, {uuid.uuid4().hex}."
            made = (sdxl_run if i % 2 else sd15_run)(i // 2, text)
            made.add("TestLeak", megabytes=leak, number=i)
            result = server.run(made.nodes)
            assert result.error is None, result.error
            return server.get("/ella_test/memory")

        sizes = [size_after(i) for i in range(RUNS)]
        found = growth(sizes)
        print(f"memory in use: {found:+.2%} after {RUNS} runs")
        assert found < MOST
        # Runs that leave 10 MB behind are found within a turn.
        whole = RUNS - RUNS % TURN
        leaking = [size_after(i, leak=10) for i in range(whole, whole + TURN)]
    assert growth(sizes[: 2 * TURN] + leaking) > MOST
