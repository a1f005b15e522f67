"""The LLM under ComfyUI's memory management, and the cache of what it has read."""
