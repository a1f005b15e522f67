"""A prompt's node that fails or takes its time, if the prompt says so."""

import time

from comfy.model_management import throw_exception_if_processing_interrupted


class Prompt:
    """Hands on a text. One with FAIL in it is an error, one with SLOW takes a minute."""

    CATEGORY = "ELLA tests"
    FUNCTION = "read"
    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"text": ("STRING", {})}}

    def read(self, text):
        if "FAIL" in text:
            raise ValueError("this prompt fails")
        if "SLOW" in text:
            for _ in range(600):
                time.sleep(0.1)
                throw_exception_if_processing_interrupted()
        return (text,)


NODE_CLASS_MAPPINGS = {"TestPrompt": Prompt}
