"""The loop: exact resume, several processes, what changes and what does not, gradients."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bootstrap import ROOT
from ella_core.checkpoint import load_connector
from ella_core.errors import EllaError
from ella_core.training import checkpoints
from ella_core.training.config_file import dump_config
from ella_core.training.contract import weights_identity
from ella_core.training.trainer import Trainer
from support.training import TORCHRUN_TWO, TWO_PROCESSES, run_python

# Kills itself at a moment of the run: in a step, in the middle of writing a checkpoint, or when a
# checkpoint is complete and the oldest is not yet deleted.
KILLED = """
import os, signal, sys
from pathlib import Path
import accelerate, torch
from ella_core.training import checkpoints, config_file, trainer

moment, at, config = sys.argv[1], int(sys.argv[2]), config_file.load_config(Path(sys.argv[3]))
trainer = trainer.Trainer(config)

def killing(function, before):
    def run(*args, **kwargs):
        due = trainer.step == at
        result = None if due and before else function(*args, **kwargs)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return run

if moment == "step":
    torch.optim.AdamW.step = killing(torch.optim.AdamW.step, before=False)
if moment == "checkpoint":
    accelerate.Accelerator.save_state = killing(accelerate.Accelerator.save_state, before=False)
if moment == "pruning":
    checkpoints.shutil.rmtree = killing(checkpoints.shutil.rmtree, before=True)
trainer.train()
"""


def losses(config):
    log = EventAccumulator(str(config.run / "logs")).Reload()
    return {event.step: event.value for event in log.Scalars("train/loss")}


@pytest.fixture
def straight(config):
    """The run that nothing interrupts: its losses and weights."""
    made = config(run="straight", optimiser={"lr": 1e-3, "ema": 0.9})
    Trainer(made).train()
    return losses(made), load_file(made.run / "connector.safetensors")


def test_killed_at_any_moment_it_goes_on_exactly(config, straight, tmp_path):
    made = config(optimiser={"lr": 1e-3, "ema": 0.9}, checkpoint={"every": 5, "keep": 1})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(made))
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    for moment, step, left in (
        ("step", 7, ["step-00000005"]),
        ("checkpoint", 10, ["step-00000005", "step-00000010.part"]),
        ("pruning", 15, ["step-00000010.part", "step-00000015"]),
    ):
        run_python(script, moment, step, path, expected=-9)
        found = sorted(p.name for p in (made.run / "checkpoints").iterdir())
        assert set(left) <= set(found), (moment, found)
    Trainer(made).train()
    expected_losses, expected = straight
    assert losses(made) == expected_losses
    assert len(expected_losses) == 20
    found = load_file(made.run / "connector.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_two_processes_make_the_same_steps(config, straight, tmp_path):
    made = config(optimiser={"lr": 1e-3, "ema": 0.9})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(made))
    said = run_python(*TWO_PROCESSES, ROOT / "scripts/train.py", path)
    assert said.count(dump_config(made)) == 1
    expected_losses, expected = straight
    found = losses(made)
    assert max(abs(found[step] - loss) for step, loss in expected_losses.items()) < 1e-5
    weights = load_file(made.run / "connector.safetensors")
    for key, tensor in expected.items():
        torch.testing.assert_close(weights[key], tensor, rtol=0, atol=1e-5)


def test_torchrun_does_too(config, straight, tmp_path):
    made = config(optimiser={"lr": 1e-3, "ema": 0.9}, steps=3)
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(made))
    run_python(*TORCHRUN_TWO, "-m", "ella_core.training", path)
    expected, found = straight[0], losses(made)
    assert len(found) == 3
    assert max(abs(loss - expected[step]) for step, loss in found.items()) < 1e-5


def test_only_the_connector_changes(config, data):
    """With LLM and VAE in use: pictures and captions are encoded while training."""
    sources = [{"pictures": str(data / "pictures")}]
    trainer = Trainer(config(steps=2, data={"resolution": 32, "sources": sources}))
    llm = trainer.parts.encoders.captions.encoder.model
    frozen = [trainer.parts.base.unet, trainer.parts.base.vae, llm]
    before = [weights_identity(module) for module in frozen]
    first = {k: t.clone() for k, t in trainer.parts.connector.state_dict().items()}
    trainer.train()
    assert [weights_identity(module) for module in frozen] == before
    assert all(p.grad is None for module in frozen for p in module.parameters())
    trained = trainer.parts.connector.state_dict()
    assert [key for key in first if torch.equal(first[key], trained[key])] == []


def test_checkpointing_and_accumulation_change_nothing(config):
    results, courses = [], []
    for name, changes in (
        ("plain", {"activation_checkpointing": False}),
        ("checkpointed", {"activation_checkpointing": True}),
        ("whole", {"activation_checkpointing": False, "micro_batch": 4}),
    ):
        made = config(run=name, steps=2, **changes)
        Trainer(made).train()
        results.append(load_file(made.run / "connector.safetensors"))
        courses.append(losses(made))
    plain, checkpointed, _ = results
    assert all(torch.equal(plain[key], checkpointed[key]) for key in plain)
    # Not the weights: the bias of the keys has no gradient but rounding, which AdamW scales up.
    assert courses[2] == pytest.approx(courses[0], abs=1e-5)


def test_other_settings_are_refused_and_more_steps_are_not(config):
    Trainer(config(steps=2)).train()
    with pytest.raises(EllaError, match=r"seed was 0 and is 1"):
        Trainer(config(steps=2, seed=1))
    longer = Trainer(config(steps=3))
    assert longer.step == 2
    longer.train()
    assert load_connector(longer.config.run / "connector.safetensors").metadata.steps == 3


def test_another_llm_is_refused_and_one_that_was_moved_is_not(config, models, data, tmp_path):
    """Its name says nothing, and a run that encodes while training has no cache to compare."""
    llm = shutil.copytree(models / "llm", tmp_path / "llm")
    changes = {
        "llm": {"path": str(llm)},
        "data": {"resolution": 32, "sources": [{"pictures": str(data / "pictures")}]},
        "checkpoint": {"every": 1},
    }
    Trainer(config(steps=1, **changes)).train()
    assert Trainer(config(steps=2, **{**changes, "llm": {"path": str(models / "llm")}})).step == 1
    weights = llm / "model.safetensors"
    save_file({k: t + 1 for k, t in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(EllaError, match=r"llm_identity was '.*' and is '.*'"):
        Trainer(config(steps=2, **changes))


def test_machines_that_do_not_share_the_runs_folder_are_told_so(config, monkeypatch):
    Trainer(config(steps=5)).train()
    monkeypatch.setattr(checkpoints, "gather_object", lambda found: [*found, "none"])
    with pytest.raises(EllaError, match=r"checkpoints in .*: none, step-00000005\. Set run to a"):
        Trainer(config(steps=10))


def test_a_loss_that_is_not_finite_stops_the_run(config):
    Trainer(config(steps=5)).train()
    trainer = Trainer(config(steps=10))
    with torch.no_grad():
        trainer.parts.connector.latents.fill_(float("nan"))
    with pytest.raises(EllaError, match=r"Step 6: the loss is nan.*000000/0\d\d"):
        trainer.train()
    assert Trainer(config(steps=10)).step == 5


def test_alignment_learns_given_contexts(config):
    made = config(loss={"objective": "align"}, steps=30, optimiser={"lr": 1e-2})
    Trainer(made).train()
    course = losses(made)
    assert sum(list(course.values())[-5:]) < 0.9 * sum(list(course.values())[:5])
