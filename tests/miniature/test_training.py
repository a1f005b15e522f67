"""The stages of the training start, go on from where they were, and end."""

import torch

from miniature import base, vae
from miniature.training import Log
from tiny_models import import_host


def test_each_stage_goes_on_and_ends(tmp_path):
    import_host()
    log = Log(tmp_path)
    vae.train(log, steps=2, batch=2)
    autoencoder = vae.train(log, steps=3, batch=2)
    trained = torch.load(tmp_path / "vae.pt")
    assert trained["step"] == 3
    for name, tensor in autoencoder.state_dict().items():
        assert tensor.equal(trained["averaged"][name])
    base.train(autoencoder, log, steps=1, number=20, batch=10)
    assert torch.load(tmp_path / "base.pt")["step"] == 1
