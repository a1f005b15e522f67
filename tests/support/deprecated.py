"""The nodes that keep other packs' graphs running, as the editor sees them."""

# Of TencentQQGYLab/ComfyUI-ELLA.
# id: inputs in the order of the widgets (optional ones with a question mark), outputs
OFFICIAL = {
    "ELLALoader": ({"name": "COMBO"}, ["ELLA"]),
    "T5TextEncoderLoader #ELLA": (
        {"name": "COMBO", "max_length": "INT", "dtype": "COMBO"},
        ["T5_TEXT_ENCODER"],
    ),
    "T5TextEncode #ELLA": (
        {"text": "STRING", "text_encoder": "T5_TEXT_ENCODER", "embeds?": "ELLA_EMBEDS"},
        ["ELLA_EMBEDS"],
    ),
    "EllaTextEncode": (
        {
            "ella": "ELLA",
            "text_encoder": "T5_TEXT_ENCODER",
            "text": "STRING",
            "clip?": "CLIP",
            "text_clip?": "STRING",
        },
        ["CONDITIONING", "CONDITIONING"],
    ),
    "EllaEncode": ({"ella": "ELLA", "embeds": "ELLA_EMBEDS"}, ["CONDITIONING"]),
    "EllaApply": (
        {
            "model": "MODEL",
            "ella": "ELLA",
            "positive": "ELLA_EMBEDS",
            "negative": "ELLA_EMBEDS",
            "sigmas?": "SIGMAS",
        },
        ["MODEL", "CONDITIONING", "CONDITIONING"],
    ),
    "SetEllaTimesteps": (
        {
            "model": "MODEL",
            "ella": "ELLA",
            "scheduler": "COMBO",
            "steps": "INT",
            "denoise": "FLOAT",
            "sigmas?": "SIGMAS",
        },
        ["ELLA"],
    ),
    "EllaCombineEmbeds": ({"embeds": "ELLA_EMBEDS", "embeds_add": "ELLA_EMBEDS"}, ["ELLA_EMBEDS"]),
    "CombineClipEllaEmbeds": ({"cond": "CONDITIONING", "embeds": "ELLA_EMBEDS"}, ["ELLA_EMBEDS"]),
    "ConcatConditionEllaEmbeds": (
        {"cond": "CONDITIONING", "embeds": "ELLA_EMBEDS"},
        ["ELLA_EMBEDS"],
    ),
    "ConditionToEllaEmbeds": ({"cond": "CONDITIONING"}, ["ELLA_EMBEDS"]),
}

PLACING = {"device?": "COMBO", "force_reload?": "BOOLEAN"}
LLM_LOADER = ({"model_name": "COMBO", **PLACING}, ["LLM_MODEL", "LLM_TOKENIZER", "STRING"])
SIZES = ("llm_dim", "sdxl_seq_dim", "sdxl_pooled_dim", "target_seq_len")
SIZES += ("n_wide_blocks", "n_narrow_blocks", "num_heads")
PICTURE = ("width", "height", "target_width", "target_height", "crop_w", "crop_h")

# The same of NeuroSenko/ComfyUI_LLM_SDXL_Adapter.
ADAPTER_PACK = {
    "LLMModelLoader": LLM_LOADER,
    "LLMGGUFModelLoader": LLM_LOADER,
    "T5GEMMALoader": LLM_LOADER,
    "LLMTextEncoder": (
        {
            "model": "LLM_MODEL",
            "tokenizer": "LLM_TOKENIZER",
            "text": "STRING",
            "system_prompt?": "STRING",
            "skip_first?": "INT",
        },
        ["LLM_HIDDEN_STATES", "STRING"],
    ),
    "T5GEMMATextEncoder": (
        {
            "llm_model": "LLM_MODEL",
            "llm_tokenizer": "LLM_TOKENIZER",
            "text": "STRING",
            "max_length": "INT",
            "device": "COMBO",
            "dtype": "COMBO",
        },
        ["LLM_HIDDEN_STATES", "LLM_ATTENTION_MASK", "STRING"],
    ),
    "LLMAdapterLoader": (
        {"adapter_name": "COMBO", "type": "COMBO", **PLACING},
        ["LLM_ADAPTER", "STRING"],
    ),
    "LLMAdapterLoaderCustom": (
        {
            "adapter_name": "COMBO",
            **{f"{name}?": "INT" for name in SIZES},
            "dropout?": "FLOAT",
            **PLACING,
        },
        ["LLM_ADAPTER", "STRING"],
    ),
    "ApplyLLMToSDXLAdapter": (
        {"llm_hidden_states": "LLM_HIDDEN_STATES", "llm_adapter": "LLM_ADAPTER"},
        ["CONDITIONING", "STRING"],
    ),
    "t5gemmaApplyLLMToSDXLAdapter": (
        {
            "llm_hidden_states": "LLM_HIDDEN_STATES",
            "llm_attention_mask": "LLM_ATTENTION_MASK",
            "llm_adapter": "LLM_ADAPTER",
            **{f"{name}?": "INT" for name in PICTURE},
        },
        ["CONDITIONING"],
    ),
}
