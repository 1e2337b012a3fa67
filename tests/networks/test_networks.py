from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anowild.networks import Discriminator, Encoder, Generator, seeded_init
from anowild.paper import reference

SIZE = {"resolution": 32, "channels": 2, "fmap_base": 64, "fmap_max": 12}


@pytest.mark.parametrize("lod", [0, 0.4, 1, 1.5, 2, 2.9, 3, 7])
def test_a_level_runs_at_its_own_resolution(lod: float) -> None:
    side = 32 >> min(int(lod), 3)
    generator, encoder = Generator(**SIZE), Encoder(**SIZE)
    images = generator(torch.randn(4, generator.latent_size), lod)
    assert images.shape == (4, 2, side, side)
    assert encoder(images, lod).shape == (4, encoder.latent_size)
    assert Discriminator(**SIZE)(images, lod).shape == (4, 1)


@pytest.mark.parametrize("lod", [0, 0.5, 1, 3])
def test_only_active_layers_take_part(lod: float) -> None:
    encoder = Encoder(**SIZE)
    side = 32 >> int(lod)
    encoder(torch.randn(4, 2, side, side), lod).sum().backward()
    used = {name for name, p in encoder.named_parameters() if p.grad is not None}
    stages = {int(name.split(".")[1]) for name in used if name.startswith("from_rgb")}
    top = 3 - int(lod)
    assert stages == ({top, top - 1} if lod % 1 else {top})
    blocks = {int(name.split(".")[1]) for name in used if name.startswith("blocks")}
    assert blocks == set(range(top))


def test_ends_of_a_fade_meet_the_levels_beside_it() -> None:
    generator = Generator(**SIZE).double()
    z = torch.randn(4, generator.latent_size).double()
    start, below = reference.forward(generator, z, 1 - 1e-9), reference.forward(generator, z, 1)
    assert torch.allclose(start, below, atol=1e-7)


def test_frozen_statistic_makes_an_image_s_latent_its_own() -> None:
    encoder = Encoder(**SIZE).double()
    images = torch.randn(8, 2, 32, 32).double()
    in_batch = encoder(images)  # also sets the running statistic
    assert not torch.allclose(encoder(images[:4]), in_batch[:4])
    encoder.eval()
    assert torch.allclose(encoder(images[:1]), encoder(images)[:1], atol=1e-12)


def test_running_statistic_follows_the_batch_statistic() -> None:
    encoder = Encoder(**SIZE)
    images = torch.randn(8, 2, 32, 32)
    for _ in range(3):
        encoder(images)
    features = encoder.features(images).detach()
    grouped = features.view(4, 2, *features.shape[1:])
    expected = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
    assert encoder.minibatch_stddev.running.item() == pytest.approx(expected.item(), rel=1e-5)


def test_reference_form_leaves_no_trace() -> None:
    encoder = Encoder(**SIZE).eval()
    reference.forward(encoder, torch.randn(4, 2, 32, 32), 0.5)
    assert encoder.minibatch_stddev.running.item() == 0
    assert not encoder.training
    assert encoder.minibatch_stddev.tracking


def test_gradients_flow_through_the_reference_form() -> None:
    generator = Generator(**SIZE)
    z = torch.randn(2, generator.latent_size, requires_grad=True)
    out: Tensor = reference.forward(generator, z, 1.5)
    assert out.shape == (2, 2, 32, 32)
    out.sum().backward()
    assert z.grad is not None


def test_variables_come_back_as_they_went_in() -> None:
    first, second = Discriminator(**SIZE), Discriminator(**SIZE)
    reference.load_variables(second, reference.export(first))
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_wrong_variables_are_refused() -> None:
    generator = Generator(**SIZE)
    arrays = reference.export(generator)
    with pytest.raises(ValueError, match=r"missing.*4x4/Conv/bias"):
        reference.load_variables(
            generator, {k: v for k, v in arrays.items() if k != "4x4/Conv/bias"}
        )
    arrays["4x4/Conv/bias"] = arrays["4x4/Conv/bias"][:-1]
    with pytest.raises(ValueError, match="4x4/Conv/bias has shape"):
        reference.load_variables(generator, arrays)
    with pytest.raises(TypeError):
        reference.load_variables(torch.nn.Linear(1, 1), {})


@pytest.mark.parametrize("resolution", [4, 24, 1024, 0, -8])
def test_impossible_resolutions_are_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match="power of two from 8 to 512"):
        Generator(resolution=resolution, channels=1)


def test_a_minibatch_that_cannot_be_grouped_is_refused() -> None:
    with pytest.raises(ValueError, match="groups of 4"):
        Encoder(**SIZE)(torch.randn(6, 2, 32, 32))


@pytest.mark.parametrize(("resolution", "channels"), [(8, 1), (64, 5), (512, 3)])
def test_all_sizes(resolution: int, channels: int) -> None:
    size = {"resolution": resolution, "channels": channels, "fmap_base": 128, "fmap_max": 4}
    generator = Generator(**size, latent_size=7)
    images = generator(torch.randn(1, 7))
    assert images.shape == (1, channels, resolution, resolution)
    assert Encoder(**size, latent_size=7)(images).shape == (1, 7)


def test_the_seed_decides_the_parameters_and_nothing_else() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded_init(1):
        first = Generator(**SIZE)
    assert torch.equal(before, torch.get_rng_state())
    with seeded_init(1):
        same = Generator(**SIZE)
    with seeded_init(2):
        other = Generator(**SIZE)
    assert torch.equal(first.dense.weight, same.dense.weight)
    assert not torch.equal(first.dense.weight, other.dense.weight)
