"""What ComfyUI_LLM_SDXL_Adapter's nodes do in wrong graphs."""

from support.host import T5, EllaGraph, Graph


def error_of(host, graph, source):
    graph.add("PreviewAny", source=source)
    error = host.run(graph).error
    assert error is not None
    return error["exception_message"]


def test_a_file_that_is_missing(host):
    """That pack's adapter then has random weights."""
    graph = Graph()
    adapter = graph.add("LLMAdapterLoader", adapter_name="gone.safetensors", type="gemma")
    assert "'gone.safetensors' was not found" in error_of(host, graph, adapter)
    graph = Graph()
    assert "'gone' was not found" in error_of(
        host, graph, graph.add("LLMModelLoader", model_name="gone")
    )


def test_a_connector_that_is_no_adapter(host):
    graph = Graph()
    llm = graph.add("LLMModelLoader", model_name=T5)
    inputs = {"llm_model": llm[0], "llm_tokenizer": llm[1]}
    given = {"max_length": 512, "device": "cuda", "dtype": "bfloat16"}
    text = graph.add("T5GEMMATextEncoder", text="a", **inputs, **given)
    ella = graph.add("LLMAdapterLoader", adapter_name="tsc.safetensors", type="gemma")
    applied = graph.add("ApplyLLMToSDXLAdapter", llm_hidden_states=text, llm_adapter=ella)
    message = error_of(host, graph, applied)
    assert "tsc.safetensors is no LLM adapter for SDXL. Connect it to ELLA Timestep" in message


def test_wires_of_another_pack(host):
    graph = EllaGraph()
    foreign = graph.add("TestForeignConnector")
    llm = graph.add("LLMModelLoader", model_name=T5)
    text = graph.add("LLMTextEncoder", model=foreign[1], tokenizer=llm[1], text="a")
    message = error_of(host, graph, text)
    assert "The input model got a dict, which another node pack made" in message
