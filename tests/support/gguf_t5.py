"""A T5 encoder as a GGUF file, with the names and fields that llama.cpp's converter gives it."""

import json
from pathlib import Path

from safetensors.numpy import load_file


def write_t5_gguf(folder: Path, path: Path) -> None:
    """Write a T5 of `write_t5` as a single file."""
    import gguf

    config = json.loads((folder / "config.json").read_text("utf-8"))
    writer = gguf.GGUFWriter(path, "t5encoder")
    writer.add_name("a small T5")
    writer.add_context_length(512)
    writer.add_embedding_length(config["d_model"])
    writer.add_feed_forward_length(config["d_ff"])
    writer.add_block_count(config["num_layers"])
    writer.add_head_count(config["num_heads"])
    writer.add_key_length(config["d_kv"])
    writer.add_value_length(config["d_kv"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_relative_attn_buckets_count(config["relative_attention_num_buckets"])
    _add_tokenizer(writer, folder, config["vocab_size"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, config["num_layers"])
    for key, tensor in load_file(folder / "model.safetensors").items():
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight",)), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer, folder, size):
    normal, control, unused = 1, 3, 5
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    pieces = [[*piece, normal] for piece in tokenizer["model"]["vocab"]]
    for token in tokenizer["added_tokens"]:
        pieces[token["id"]][2] = control
    pieces += [[f"[PAD{i}]", -1e3, unused] for i in range(len(pieces), size)]
    tokens, scores, types = zip(*pieces, strict=True)
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(True)
