"""What this pack needs of ComfyUI: all of it is there, and what if it isn't."""

import json
import shutil
import subprocess
import sys

import pytest

from bootstrap import ROOT
from comfyui import PACK_NAME, Server
from support.host_names import names_in, used_names
from tiny_models import import_host

# What was read in the source of newer ComfyUI, file by file.
NEWER = json.loads((ROOT / "tests/packaging/newer_comfyui.json").read_text("utf-8"))

NO_SUCH = [
    "comfy.no_such_module",
    "comfy.ops.no_such_name",
    "comfy.patcher_extension.WrappersMP.NO_SUCH_WRAPPER",
    "comfy_api.latest.io.Schema.no_such_field",
    "comfy_api.latest.io.Combo.NoSuchInput",
    "comfy_api.latest.io.Int.Input.no_such_parameter",
    "server.PromptServer.instance.no_such_attribute",
    "no_such_package.name",
]


def host_names(*names):
    """In a process of its own: some of ComfyUI's modules change what they are imported into."""
    command = [sys.executable, ROOT / "tests/support/host_names.py", *names]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def test_every_name_that_is_used_exists():
    result = host_names()
    assert result["checked"] > 60
    assert result["missing"] == []


def test_a_missing_name_is_noticed():
    assert host_names("comfy.ops.manual_cast", *NO_SUCH)["missing"] == NO_SUCH


def lookup(name):
    """What newer ComfyUI makes of a name: "has", "removed", "unknown", None if not looked up."""
    files = NEWER["files"].values()
    owner, _, last = name.rpartition(".")
    for parameters in (file.get("parameters", {}) for file in files):
        if owner in parameters:
            return "has" if last in parameters[owner] else "removed"
    parts = name.split(".")
    parents = {".".join(parts[: i + 1]) for i in range(len(parts))}
    if any(parents.intersection(file.get("removed", ())) for file in files):
        return "removed"
    if any(parents.intersection(file["has"]) for file in files):
        return "has"
    if any(known.startswith(f"{name}.") for file in files for known in file["has"]):
        return "has"
    return "unknown" if name in NEWER["not_looked_up"] else None


def test_newer_comfyui_still_has_every_name_that_is_used():
    """A name that is new in the pack has to be looked up there, and noted in the file."""
    found = {name: lookup(name) for name in used_names()}
    assert [name for name, state in found.items() if state in ("removed", None)] == []
    assert sum(state == "has" for state in found.values()) > 100
    assert {name for name, state in found.items() if state == "unknown"} == set(
        NEWER["not_looked_up"]
    )


@pytest.mark.parametrize(
    "name",
    [
        "comfy.cli_args.args.normalvram",
        "comfy_api.latest.io.NodeInfoV3",
        "comfy_api.latest.io.NodeInfoV3.hidden",
        "comfy_api.latest.io.Int.Input.lower",
    ],
)
def test_what_newer_comfyui_removed_is_noticed(name):
    assert lookup(name) == "removed"


def test_what_was_not_looked_up_is_noticed():
    assert lookup("comfy.model_management.soft_empty_cache") is None


def test_names_are_collected_with_the_keywords_of_inputs_outputs_and_schemas(tmp_path):
    file = tmp_path / "node.py"
    file.write_text(
        "from comfy_api.latest import io\nfrom .types import Mine\n"
        "io.Int.Input('a', min=0)\nMine.Input('b', lazy=True)\nio.Schema(**more, category='c')\n"
    )
    io = "comfy_api.latest.io"
    expected = {f"{io}.Int.Input.min", f"{io}.Input.lazy", f"{io}.Schema.category"}
    found = names_in(file)
    assert expected <= found
    assert not any("None" in name for name in found)


def test_sampling_is_prepared_with_options_of_a_newer_comfyui():
    """Such as those that ComfyUI 0.38 hands through these wrappers."""
    import_host()
    from comfy.patcher_extension import WrapperExecutor, WrappersMP

    from ella_core.comfy.sampling.conditioning import WRAPPERS

    def prepare_sampling(*args, **options):
        return args, options

    wrapper = WRAPPERS[WrappersMP.PREPARE_SAMPLING]
    executor = WrapperExecutor.new_executor(prepare_sampling, [wrapper])
    options = {"model_options": {}, "force_full_load": False, "force_offload": True}
    args = ("model", [1, 4, 8, 8], {"positive": [], "negative": []})
    assert executor.execute(*args, **options) == (args, options)


def replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_comfyui_that_is_too_old_says_so_in_one_line(tmp_path):
    """A module and a name that are not there stand for all that an old ComfyUI lacks."""
    for name in (PACK_NAME, f"{PACK_NAME}-2"):
        pack = tmp_path / "custom_nodes" / name
        for folder in ("nodes", "ella_core"):
            shutil.copytree(ROOT / folder, pack / folder)
        shutil.copy(ROOT / "__init__.py", pack)
    replace(pack.with_name(PACK_NAME) / "nodes/types.py", "comfy_api.latest", "comfy_api.not_yet")
    file = pack / "ella_core/comfy/sampling/conditioning.py"
    replace(file, "WrappersMP.PREPARE_SAMPLING", "WrappersMP.NOT_YET")
    with Server(tmp_path, ["--cpu"], with_pack=False) as server:
        infos = server.get("/object_info")
        lines = server.log_text().splitlines()
    assert "KSampler" in infos
    assert not any(PACK_NAME in info["python_module"] for info in infos.values())
    found = [line for line in lines if "ELLA Nodes" in line]
    assert len(found) == 2
    assert all("needs ComfyUI 0.3.64 or later" in line for line in found)
    assert all("Update ComfyUI" in line for line in found)
    assert sum("No module named 'comfy_api.not_yet'" in line for line in found) == 1
    assert sum("'WrappersMP' has no attribute 'NOT_YET'" in line for line in found) == 1
    assert not any("Traceback" in line for line in lines)
