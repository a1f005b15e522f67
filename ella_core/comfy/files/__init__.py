"""ComfyUI's model folders, and downloads into them."""
