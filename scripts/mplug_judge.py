"""mPLUG-large, the judge of DPG-Bench's published script, for `judge --judge program`.

Needs the environment that the published script needs (Python 3.8, modelscope, fairseq ...), and
nothing of this repository:

    ella-eval judge --judge program --command "/path/to/old/python scripts/mplug_judge.py" \\
        --model mplug_visual-question-answering_coco_large_en ...
"""

import json
import os
import sys

MODEL = "damo/mplug_visual-question-answering_coco_large_en"


def main() -> None:
    # What modelscope prints would be read as answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    from modelscope.pipelines import pipeline
    from modelscope.utils.constant import Tasks
    from PIL import Image

    ask = pipeline(Tasks.visual_question_answering, model=MODEL)
    for line in sys.stdin:
        request = json.loads(line)
        picture = Image.open(request["picture"]).convert("RGB")
        texts = [ask({"image": picture, "question": q})["text"] for q in request["questions"]]
        print(json.dumps({"replies": [{"text": text} for text in texts]}), file=answers, flush=True)


if __name__ == "__main__":
    main()
