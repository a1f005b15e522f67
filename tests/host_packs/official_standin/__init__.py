"""Has the node ids of TencentQQGYLab/ComfyUI-ELLA, and nothing behind them."""

_IDS = (
    "ELLALoader",
    "T5TextEncoderLoader #ELLA",
    "T5TextEncode #ELLA",
    "EllaTextEncode",
    "EllaEncode",
    "EllaApply",
    "SetEllaTimesteps",
    "EllaCombineEmbeds",
    "CombineClipEllaEmbeds",
    "ConcatConditionEllaEmbeds",
    "ConditionToEllaEmbeds",
)


class StandIn:
    """Takes and gives nothing."""

    CATEGORY = "ella"
    FUNCTION = "run"
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {}}

    def run(self):
        return ()


NODE_CLASS_MAPPINGS = {name: type("StandIn", (StandIn,), {}) for name in _IDS}
NODE_DISPLAY_NAME_MAPPINGS = {name: f"Official {name}" for name in _IDS}
