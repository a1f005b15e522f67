"""Judges of transformers' own classes, with small random weights."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoProcessor,
    BlipForQuestionAnswering,
    LlavaForConditionalGeneration,
)

from ella_core.errors import EllaError
from ella_core.evaluation.answers import read_answers
from ella_core.evaluation.cli import main
from ella_core.evaluation.judges.base import yes_or_no
from ella_core.evaluation.judges.blip import BlipJudge
from ella_core.evaluation.judges.chat import ChatJudge
from ella_core.evaluation.questions import write_csv
from support.judges import WORDS, write_blip, write_chat

TEMPLATE = "{question} answer with yes or no"


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    write_chat(folder)
    return folder


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip")
    write_blip(folder)
    return folder


def probabilities(replies):
    return torch.tensor([[reply.p_yes, reply.p_no] for reply in replies], dtype=torch.float64)


def assert_first_token(reply, expected, tokenizer):
    """Compare a reply with the probabilities of all tokens."""
    vocabulary = tokenizer.get_vocab()
    for found, words in ((reply.p_yes, ("yes", "Yes")), (reply.p_no, ("no", "No"))):
        total = sum(expected[vocabulary[word]].item() for word in words)
        assert found == pytest.approx(total, abs=1e-6)
    first = tokenizer.decode([expected.argmax()], skip_special_tokens=True)
    assert reply.text.startswith(first)


def test_questions_in_a_batch_are_answered_as_one_by_one(chat, pictures, items):
    together = ChatJudge(str(chat), "", TEMPLATE, "cpu", batch=16)
    one_by_one = ChatJudge(str(chat), "", TEMPLATE, "cpu", batch=1)
    for picture in pictures[:2]:
        found = together.ask(picture, items[0].questions)
        expected = one_by_one.ask(picture, items[0].questions)
        assert [reply.text for reply in found] == [reply.text for reply in expected]
        torch.testing.assert_close(probabilities(found), probabilities(expected), atol=1e-6, rtol=0)
        assert len(set(map(tuple, probabilities(found).tolist()))) == len(items[0].questions)


def test_chat_probabilities_are_the_models(chat, pictures, items):
    """Compared with a plain call of the model on a text written out by hand."""
    replies = ChatJudge(str(chat), "", TEMPLATE, "cpu", batch=16).ask(
        pictures[1], items[0].questions
    )
    processor = AutoProcessor.from_pretrained(chat)
    model = LlavaForConditionalGeneration.from_pretrained(chat).eval()
    for question, reply in zip(items[0].questions, replies, strict=True):
        text = f"<s> <image> {question.text} answer with yes or no : "
        inputs = processor(text=text, images=pictures[1].open(), return_tensors="pt")
        with torch.no_grad():
            expected = model(**inputs).logits[0, -1].softmax(-1)
        assert_first_token(reply, expected, processor.tokenizer)


def test_blip_probabilities_are_the_models(blip, pictures, items):
    """Compared with the first step of the model's own `generate`, at 480 pixels."""
    replies = BlipJudge(str(blip), "", "cpu").ask(pictures[1], items[0].questions)
    processor = AutoProcessor.from_pretrained(blip)
    model = BlipForQuestionAnswering.from_pretrained(blip).eval()
    for question, reply in zip(items[0].questions, replies, strict=True):
        inputs = processor(
            images=pictures[1].open(),
            text=question.text,
            size={"height": 480, "width": 480},
            return_tensors="pt",
        )
        output = model.generate(
            **inputs,
            interpolate_pos_encoding=True,
            max_new_tokens=1,
            return_dict_in_generate=True,
            output_logits=True,
        )
        expected = output.logits[0][0].softmax(-1)
        assert_first_token(reply, expected, processor.tokenizer)
    assert len({reply.p_yes for reply in replies}) == len(replies)


@pytest.mark.parametrize("kind", ["chat", "blip-vqa"])
def test_from_the_judge_to_the_score_by_commands(kind, request, items, folder, tmp_path, capsys):
    """Also if the judge was stopped in the middle of a line."""
    model = request.getfixturevalue(kind.partition("-")[0])
    questions, answers = tmp_path / "questions.csv", tmp_path / "answers.jsonl"
    write_csv(questions, items)
    files = ["--questions", str(questions), "--answers", str(answers), "--pictures", "2"]
    judge = ["judge", *files, "--folder", str(folder), "--judge", kind, "--model", str(model)]
    judge += ["--device", "cpu"]
    assert main(judge) == 0
    found = read_answers(answers)
    assert len(found) == 3 * 3 * 2
    for answer in found.values():
        assert 0 < answer.p_yes < 1
        assert 0 < answer.p_no < 1
        assert answer.judge == str(model)
    answers.write_bytes(answers.read_bytes()[: answers.stat().st_size // 2])
    assert main(judge) == 0
    again = read_answers(answers)
    assert again.keys() == found.keys()
    for key, answer in again.items():
        assert answer.p_yes == pytest.approx(found[key].p_yes, abs=1e-6)
    for protocol in ("fixed", "blip-vqa"):
        assert main(["score", *files, "--protocol", protocol]) == 0
        assert f"protocol {protocol}, judge {model}, 3 prompts of 2" in capsys.readouterr().out


def test_a_model_that_lacks_weights(chat, tmp_path):
    for file in chat.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(chat / "model.safetensors")
    gone = next(name for name in weights if "q_proj" in name)
    del weights[gone]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EllaError, match=r"lacks 1 weights.*q_proj.*random"):
        ChatJudge(str(tmp_path), "", TEMPLATE, "cpu", batch=1)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(EllaError, match="can't be opened as Blip"):
        BlipJudge(str(tmp_path), "", "cpu")


def test_a_tokenizer_without_yes(tmp_path, monkeypatch):
    monkeypatch.setattr("support.judges.WORDS", [w for w in WORDS if w not in ("yes", "Yes")])
    write_blip(tmp_path)
    with pytest.raises(EllaError, match="no token for 'yes'"):
        BlipJudge(str(tmp_path), "", "cpu")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("yes", "yes"),
        (" Yes, it is.", "yes"),
        ("No.", "no"),
        ("**No**", "no"),
        ("Not at all", "Not at all"),
        ("It is", "It is"),
        ("", ""),
    ],
)
def test_the_answer_in_a_text(text, answer):
    assert yes_or_no(text) == answer
