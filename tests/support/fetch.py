"""Downloads in a process of its own: huggingface_hub reads its environment once, when imported.

Each line of its input is the JSON of a model's name and a folder; each line of its output the JSON
of what was done or went wrong.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ella_core import hub
from ella_core.downloads import Download
from ella_core.errors import EllaError
from ella_core.hub import SOURCES


def fetch(name, root):
    steps = []
    try:
        lines = Download.of(SOURCES[name], Path(root)).fetch(lambda *step: steps.append(step))
    except EllaError as error:
        unreached = error.reason if isinstance(error, hub.HubUnreachedError) else None
        return {"error": str(error), "unreached": unreached, "steps": steps}
    return {"lines": lines, "steps": steps}


for line in sys.stdin:
    print(json.dumps(fetch(*json.loads(line))), flush=True)
