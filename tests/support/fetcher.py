"""Downloads in a process with an environment of its own."""

import json
import subprocess
import sys

from bootstrap import ROOT


class Fetcher:
    """`Download` in a process with an environment of its own."""

    def __init__(
        self, folder, environment, command=(sys.executable, ROOT / "tests/support/fetch.py")
    ):
        self.folder = folder
        self.process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def begin(self, name="connector"):
        print(json.dumps([name, str(self.folder)]), file=self.process.stdin, flush=True)

    def __call__(self, name="connector"):
        self.begin(name)
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
