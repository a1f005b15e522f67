"""The pack in other versions of ComfyUI than that of the tests."""

import shutil

from bootstrap import ROOT
from comfyui import PACK_NAME, Server
from tiny_models import import_host


def test_sampling_is_prepared_with_options_of_a_newer_comfyui():
    """ComfyUI 0.38 hands such options through these wrappers."""
    import_host()
    from comfy.patcher_extension import WrapperExecutor, WrappersMP

    from ella_core.comfy.sampling.wrappers import WRAPPERS

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
    file = pack / "ella_core/comfy/sampling/wrappers.py"
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
