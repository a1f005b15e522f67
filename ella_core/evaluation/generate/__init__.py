"""Paint the pictures of a benchmark's prompts, on running ComfyUI servers or with a pipeline."""
