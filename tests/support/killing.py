"""Run commands of `ella-train` one after the other, each killed once and then started again.

python killing.py commands.json, which holds {"arguments": [...], "kill": ["module:name", n]} each:
at its n-th call of that function the process kills itself, after the call. Every command has a
process of its own; they are forked from this one, which has imported everything and done nothing.
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(sys.argv[1]).parent)]

import diffusers
import transformers

from ella_core.training.cli import main

_ = diffusers.UNet2DConditionModel, diffusers.AutoencoderTiny, diffusers.DDPMScheduler
_ = transformers.LlavaForConditionalGeneration, transformers.T5EncoderModel


def run(arguments: list[str], kill: list | None) -> int:
    """Run a command in a process of its own and return its exit code, -9 if it was killed."""
    process = os.fork()
    if not process:
        if kill:
            _arm(*kill)
        code = 1
        try:
            code = main(arguments)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _arm(name: str, calls: int) -> None:
    module, _, path = name.partition(":")
    *parents, last = path.split(".")
    owner = importlib.import_module(module)
    for parent in parents:
        owner = getattr(owner, parent)
    function, left = getattr(owner, last), [calls]

    def killing(*args, **kwargs):
        result = function(*args, **kwargs)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, last, killing)


if __name__ == "__main__":
    for command in json.loads(Path(sys.argv[1]).read_text()):
        for kill, expected in ((command["kill"], -signal.SIGKILL), (None, 0)):
            found = run(command["arguments"], kill)
            if found != expected:
                sys.exit(f"{command['arguments']} ended with {found} instead of {expected}")
