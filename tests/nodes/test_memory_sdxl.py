"""SD1.5 and SDXL in turn: little memory is left behind.

ELLA_TEST_RUNS=100 python -m pytest tests/nodes/test_memory_sdxl.py -s   the long run
"""

import os
import uuid

import psutil

from comfyui import Server
from support.host import HOST_PACKS
from support.mixed_runs import mixed_run
from support.sdxl import CONTROLNET, ELLA_SDXL, GEMMA, T5GEMMA, SDXLGraph, models

RUNS = int(os.environ.get("ELLA_TEST_RUNS", "24"))
TURN = 8  # runs after which all kinds have been
SPAN = 3 * TURN if RUNS >= 100 else TURN  # a model that is there for a moment is in most of these
# Few runs can't show that all is flat: the host's own memory still grows then, once by 130 MB. But
# if each run of SDXL left a copy of a model behind, of which the smallest has 150 MB, they would
# show it: all is 1.4 GB.
MOST = 0.02 if RUNS >= 100 else 0.25


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
    sizes = {f"{prefix}{side}": 0 for prefix in ("", "target_") for side in ("width", "height")}
    given = {"conditioning": graph.conditioning[1], "clip": clip, "clip_pooled": 0.5}
    made = graph.add("ELLASDXLOptions", **given, **sizes, crop_w=0, crop_h=0)
    return {"positive": made}


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


def test_memory_is_flat_over_runs_of_both(host, tmp_path):
    (tmp_path / "models").symlink_to(host.models, target_is_directory=True)
    packs = [HOST_PACKS / "ella_test_nodes"]
    with models(host), Server(tmp_path, ["--cpu"], packs) as server:
        process, sizes = psutil.Process(server.pid), []
        for i in range(RUNS):
            text = f"A red cat, {uuid.uuid4().hex}." if i % 3 else "A blue dog."
            made = (sdxl_run if i % 2 else sd15_run)(i // 2, text)
            result = server.run(made.nodes)
            assert result.error is None, result.error
            memory = process.memory_info()
            sizes.append(memory.rss - memory.shared)  # the system drops pages of files as it likes
    # What each run left behind would raise the highest of a span of runs and its lowest alike.
    first = 5 * TURN if RUNS >= 100 else TURN
    spans = [sizes[i : i + SPAN] for i in range(first, RUNS - SPAN + 1, SPAN)]
    growth = min(max(map(of, spans)) / of(spans[0]) - 1 for of in (min, max))
    for of, what in ((min, "lowest"), (max, "highest")):
        print(f"{what} MB of each {SPAN} runs:", *(f"{of(span) / 1e6:.0f}" for span in spans))
    print(f"resident memory: {growth:+.2%} after runs {first} to {first + SPAN}")
    assert growth < MOST
