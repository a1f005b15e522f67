"""The faults that a trial beside other packs, on users' files and in the browser found.

Each row names the tests that fail where the fault is back. To run all of them, or those of one:

python scripts/test.py $(.venv/bin/python tests/test_field_trial.py)
python scripts/test.py $(.venv/bin/python tests/test_field_trial.py "a pooled_output")
"""

import ast
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

SAMPLING = "ella_core/comfy/sampling"
LAYOUTS = "ella_core/text_encoders/test_layouts.py"
EDITS = "exactness/test_edits.py"

FAULTS = {
    "a node id that another pack has": [
        "nodes/test_schema.py::test_these_are_all_the_nodes",
        "nodes/test_schema.py::test_ids_that_another_pack_has_are_named_at_the_start",
        "nodes/test_official.py::test_the_official_pack_keeps_its_ids",
    ],
    "no error where only the tensor of a conditioning survives": [
        f"{SAMPLING}/test_conditioning.py::test_an_unpatched_model_is_said_to_be_unpatched",
        f"{SAMPLING}/test_context.py::test_a_context_that_reaches_a_layer_takes_its_value_there",
    ],
    "edits of a conditioning freeze it at one timestep": [
        f"{EDITS}::test_a_prompt_for_each_picture",
        f"{EDITS}::test_a_prompt_for_each_frame_in_context_windows",
        f"{EDITS}::test_conditioning_average",
        f"{SAMPLING}/test_context.py::test_an_edit_is_repeated_at_every_timestep",
        f"{SAMPLING}/test_conditioning.py::test_a_context_that_was_replaced_is_warned_about",
    ],
    "tensors used past the conditioning freeze": [
        f"{EDITS}::test_a_context_that_another_node_brings_into_cross_attention",
    ],
    "samplers that rebuild the model": [
        f"{SAMPLING}/test_conditioning.py::test_a_model_that_a_sampler_built_anew",
    ],
    "a pooled_output that every CLIP conditioning has is missing": [
        f"{SAMPLING}/test_conditioning.py::test_a_pooled_output_is_there_as_in_clips_conditionings",
    ],
    "unknown tensors in an LLM's files are ignored": [
        f"{LAYOUTS}::test_scaled_fp8",
        f"{LAYOUTS}::test_tensors_that_the_model_has_no_place_for",
    ],
    "files as they really lie about": [
        f"{LAYOUTS}::test_weights_under_another_name",
        f"{LAYOUTS}::test_several_weights_of_which_none_is_named",
        f"{LAYOUTS}::test_weights_in_parts",
        f"{LAYOUTS}::test_files_that_all_have_a_prefix",
        f"{LAYOUTS}::test_a_pointer_of_git_lfs",
        f"{LAYOUTS}::test_a_t5gemma_reads_with_its_encoder",
        f"{LAYOUTS}::test_a_t5_in_one_file",
        f"{LAYOUTS}::test_the_configuration_of_a_t5_is_read_off_its_shapes",
        f"{LAYOUTS}::test_a_qwen3_in_one_file_with_the_tokenizer_of_comfyui",
        f"{LAYOUTS}::test_a_gemma_3_in_one_file_with_its_tokenizer_beside_it",
        f"{LAYOUTS}::test_a_llama_in_one_file_needs_its_configuration",
        "ella_core/test_checkpoint.py::test_prefixes_of_wrappers_are_stripped",
    ],
    "model folders are walked at each queue": [
        "ella_core/comfy/files/test_folders.py::test_folders_are_read_once",
        "ella_core/comfy/files/test_folders.py::test_what_is_new_or_gone_is_noticed",
    ],
    "prose read as a weight": [
        "ella_core/text_encoders/test_weights.py::test_prose",
        "ella_core/text_encoders/test_weights.py::test_sentences_of_prose",
    ],
    "help needs a user with --multi-user": [
        "nodes/test_multi_user.py::test_help_needs_no_user",
    ],
    "of two equal nodes only one reports": [
        "nodes/test_feedback.py::test_two_equal_prompts_both_report",
        "browser/test_subgraph_report.py::test_two_equal_prompts_both_report",
    ],
    "partial files, GGUF tokenizers, time-outs and rows of a pass": [
        "ella_core/test_downloads.py::test_a_part_of_another_version_is_deleted",
        "ella_core/text_encoders/test_gguf_tokenizer.py"
        "::test_it_is_made_once_and_again_only_for_a_changed_or_damaged_file",
        "ella_core/test_hub.py::test_a_hub_that_does_not_answer",
        "ella_core/test_store.py::test_a_pass_counts_the_connectors_own_latents",
    ],
    "search, dropped links, missing models and the offline dialog in the editor": [
        "browser/test_search.py::test_enter_takes_the_node_whose_word_was_typed",
        "browser/test_search.py::test_the_title_on_the_canvas_is_the_nodes_own",
        "browser/test_search.py::test_a_dropped_link_gets_no_deprecated_nodes_of_this_pack",
        "browser/test_texts.py::test_the_only_llm_is_offered_for_a_missing_one",
        "browser/test_downloads.py::test_says_what_is_wrong_with_the_hub",
        "nodes/test_empty_folders.py::test_empty_dropdowns_say_what_to_put_where",
        "nodes/test_composition.py::test_a_negative_that_is_left_open_is_the_empty_prompt",
    ],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_its_tests_are_there(fault):
    for test in FAULTS[fault]:
        file, _, name = test.partition("::")
        tree = ast.parse((TESTS / file).read_text("utf-8"))
        assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}, test


if __name__ == "__main__":
    (part,) = sys.argv[1:] or [""]
    print(*(f"tests/{t}" for fault, tests in FAULTS.items() if part in fault for t in tests))
