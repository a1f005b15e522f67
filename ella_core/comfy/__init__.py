"""The only part of the library that knows ComfyUI: its folders, memory and sampling."""
