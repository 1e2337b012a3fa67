from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from anowild.settings import Settings
from anowild.training.augmentation import augment
from anowild.training.losses import (
    discriminator_loss,
    encoder_loss,
    generator_loss,
    penalized_count,
)
from anowild.training.networks import Networks, ema_update
from anowild.training.noise import StepNoise
from anowild.training.step import Step
from tests.conftest import tiny_settings


def iterate(step: Step, count: int = 1, **replaced: Tensor) -> dict[str, Tensor]:
    """Run some iterations on noise; the last one's report."""
    latent = step.networks.generator.latent_size
    rng = torch.Generator().manual_seed(0)
    for _ in range(count):
        noise = StepNoise(
            *(torch.rand(8, 1, 1, 1, generator=rng) if i == 1 else torch.randn(8, latent, generator=rng)
              for i in range(4))
        )  # fmt: skip
        reals = replaced.get("reals", torch.rand(8, 1, 16, 16, generator=rng) * 2 - 1)
        report = step(reals, noise, 0.0, 1e-3, 0.9)
    return report


def build(settings: Settings | None = None) -> Step:
    settings = settings or tiny_settings()
    return Step(Networks.build(settings, 16, 1), settings)


def parameters(step: Step) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value.detach().clone()
        for name, network in step.networks.named().items()
        for key, value in network.named_parameters()
    }


def moved(before: dict[str, Tensor], step: Step) -> set[str]:
    after = parameters(step)
    return {key.split("/")[0] for key in before if not torch.equal(before[key], after[key])}


def test_every_active_parameter_moves() -> None:
    step = build()
    before = parameters(step)
    iterate(step, 3)
    after = parameters(step)
    still = {key for key in before if torch.equal(before[key], after[key])}
    # Only the images' layers of the coarser levels have nothing to do at full size.
    assert all("to_rgb" in key or "from_rgb" in key for key in still)
    assert any(key.startswith("encoder/conv") for key in before.keys() - still)


def test_averages_lag_by_one_update() -> None:
    step = build()
    before = parameters(step)
    iterate(step)
    assert moved(before, step) == {"generator", "discriminator", "encoder"}


def test_sequential_training_leaves_the_encoder_for_later() -> None:
    step = build(tiny_settings(encoder="sequential"))
    before = parameters(step)
    report = iterate(step, 2)
    assert "E_loss" not in report
    assert "encoder" not in moved(before, step)

    before = parameters(step)
    noise = StepNoise(*(torch.randn(8, step.networks.generator.latent_size) for _ in range(4)))
    step.encoder_alone(torch.zeros(8, 1, 16, 16), noise, 0.0, 1e-3, 0.9)
    assert moved(before, step) == {"encoder"}


def test_the_encoder_s_loss_does_not_reach_the_generator_unless_asked() -> None:
    plain, cycle = build(), build(tiny_settings(cycle_weight=10))
    iterate(plain)
    iterate(cycle)
    difference = (
        plain.networks.generator.conv.weight - cycle.networks.generator.conv.weight
    ).abs().max()  # fmt: skip
    assert difference > 1e-6
    assert torch.equal(
        plain.networks.discriminator.conv.weight, cycle.networks.discriminator.conv.weight
    )


def test_the_encoder_learns_to_invert_the_generator() -> None:
    torch.manual_seed(0)
    step = build()
    noise = StepNoise(*(torch.randn(8, step.networks.generator.latent_size) for _ in range(4)))
    reals = torch.zeros(8, 1, 16, 16)
    errors = [step.encoder_alone(reals, noise, 0.0, 0.01, 0.9)["E_loss"].item() for _ in range(60)]
    assert max(errors[-5:]) < 0.95 * errors[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_without_a_finite_gradient_is_skipped_and_counted(value: float) -> None:
    step = build()
    iterate(step)
    before = parameters(step)
    moments = {k: v.clone() for k, v in step.optimizers["discriminator"].tensors().items()}
    reals = torch.zeros(8, 1, 16, 16)
    reals[3, 0, 2, 2] = value
    iterate(step, reals=reals)
    assert step.skipped == 1
    assert "discriminator" not in moved(before, step)
    after = step.optimizers["discriminator"].tensors()
    assert moments.keys() == after.keys()
    assert all(torch.equal(moments[key], after[key]) for key in moments)
    assert {"generator", "encoder"} <= moved(before, step)
    assert all(torch.isfinite(p).all() for p in parameters(step).values())


def test_a_large_but_finite_gradient_is_no_reason_to_skip() -> None:
    step = build(tiny_settings(gradient_target=1e-6))
    iterate(step)
    assert step.skipped == 0


def test_adam_does_not_depend_on_memory_layout() -> None:
    def run(layout: Any) -> Tensor:
        settings = tiny_settings()
        networks = Networks.build(settings, 16, 1)
        for network in networks.named().values():
            network.double().to(memory_format=layout)  # type: ignore[call-overload]
        step = Step(networks, settings)
        latent = networks.generator.latent_size
        rng = torch.Generator().manual_seed(0)
        for _ in range(2):
            noise = StepNoise(
                torch.randn(8, latent, generator=rng).double(),
                torch.rand(8, 1, 1, 1, generator=rng).double(),
                torch.randn(8, latent, generator=rng).double(),
                torch.randn(8, latent, generator=rng).double(),
            )
            step(torch.zeros(8, 1, 16, 16).double(), noise, 0.0, 1e-3, 0.9)
        return networks.discriminator.conv.weight.detach().contiguous()

    assert torch.allclose(run(torch.channels_last), run(torch.contiguous_format), atol=1e-10)


def test_ema_update_includes_the_running_statistic() -> None:
    settings = tiny_settings()
    networks = Networks.build(settings, 16, 1)
    target = copy.deepcopy(networks.average_encoder)
    networks.encoder.minibatch_stddev.running.fill_(2.0)
    ema_update(target, networks.encoder, 0.75)
    assert target.minibatch_stddev.running.item() == pytest.approx(0.5)


def noise_of(latents: Tensor, alpha: Tensor) -> StepNoise:
    """The same latents for all three networks."""
    return StepNoise(latents, alpha, latents, latents)


def iterate_once(
    settings: Settings, reals: Tensor, noise: StepNoise
) -> tuple[Step, dict[str, Tensor]]:
    step = build(settings)
    return step, step(reals, noise, 0.0, 1e-3, 0.9)


@pytest.fixture
def reals() -> Tensor:
    return torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def same_noise() -> StepNoise:
    rng = torch.Generator().manual_seed(2)
    latent = build().networks.generator.latent_size
    return noise_of(torch.randn(8, latent, generator=rng), torch.rand(8, 1, 1, 1, generator=rng))


def test_shared_fakes_equal_fakes_of_equal_noise(reals: Tensor, same_noise: StepNoise) -> None:
    own, _ = iterate_once(tiny_settings(), reals, same_noise)
    shared, _ = iterate_once(tiny_settings(shared_fakes=True), reals, same_noise)
    a, b = parameters(own), parameters(shared)
    # E differs: its images are those of G before this update.
    assert all(
        torch.allclose(a[key], b[key], atol=1e-6) for key in a if not key.startswith("encoder")
    )


def test_simultaneous_step_trains_d_as_alternating_and_g_against_the_old_d(
    reals: Tensor, same_noise: StepNoise
) -> None:
    alternating, _ = iterate_once(tiny_settings(), reals, same_noise)
    simultaneous, report = iterate_once(tiny_settings(simultaneous=True), reals, same_noise)
    a, b = parameters(alternating), parameters(simultaneous)
    d = [key for key in a if key.startswith("discriminator")]
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in d)

    by_hand = build()
    n = by_hand.networks
    fakes = n.generator(same_noise.generator * by_hand.settings.latent_scale)
    loss = generator_loss(n.discriminator, fakes, 0.0).mean()
    assert report["G_loss"].item() == pytest.approx(loss.item(), abs=1e-5)
    optimizer = by_hand.optimizers["generator"]
    optimizer.step(torch.autograd.grad(loss, optimizer.parameters, allow_unused=True), 1e-3)
    for key, expected in n.generator.named_parameters():
        assert torch.allclose(b[f"generator/{key}"], expected, atol=1e-6), key


def test_penalty_share_is_rounded_up_to_whole_groups(reals: Tensor, same_noise: StepNoise) -> None:
    step, report = iterate_once(tiny_settings(penalty_share=0.3), reals, same_noise)
    assert len(reals) == 8
    assert len(report["gradient_norm"]) == 4
    assert len(report["real_score"]) == 8
    # As if these four alone had been interpolated; the weight stays.
    discriminator = build().networks.discriminator
    with torch.no_grad():
        fakes = build().networks.generator(same_noise.discriminator * step.settings.latent_scale)
    whole = discriminator_loss(discriminator, reals, fakes, same_noise.alpha, 0.0)
    part = discriminator_loss(discriminator, reals[:4], fakes[:4], same_noise.alpha[:4], 0.0)
    assert torch.allclose(report["gradient_norm"], part.interpolated.norms, atol=1e-5)
    penalties = [10 * (found.interpolated.norms - 1).square().mean() for found in (whole, part)]
    expected = whole.loss - penalties[0] + penalties[1]
    assert report["D_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(16, 1.0, 16), (16, 0.25, 4), (16, 0.26, 8), (4, 0.25, 4), (2, 0.25, 2), (64, 0.001, 4)],
)
def test_penalized_count(count: int, share: float, expected: int) -> None:
    assert penalized_count(count, share) == expected


def test_bfloat16_rounds_what_is_computed_and_nothing_that_is_kept(
    reals: Tensor, same_noise: StepNoise
) -> None:
    full, expected = iterate_once(tiny_settings(), reals, same_noise)
    half, report = iterate_once(tiny_settings(precision="bfloat16"), reals, same_noise)
    assert report["D_loss"] != expected["D_loss"]
    for name, value in expected.items():
        assert report[name].dtype == torch.float32
        assert torch.allclose(report[name], value, rtol=0.1, atol=0.1), name
    assert all(p.dtype == torch.float32 for p in parameters(half).values())
    # Outside of a step all is float32.
    with torch.no_grad():
        a = full.networks.average_encoder(reals)
        b = half.networks.average_encoder(reals)
    assert torch.allclose(a, b, atol=1e-5)


def test_minibatches_in_one_pass_do_not_see_each_other(reals: Tensor) -> None:
    discriminator = build().networks.discriminator.double()
    first, second = reals.double(), reals.double().flip(0) * 0.5
    apart = torch.cat([discriminator(first), discriminator(second)])
    together = discriminator(torch.cat([first, second]), parts=2)
    assert torch.allclose(apart, together, atol=1e-12)
    assert not torch.allclose(apart, discriminator(torch.cat([first, second])), atol=1e-6)


def test_r1_penalizes_gradients_at_real_images(reals: Tensor, same_noise: StepNoise) -> None:
    discriminator = build().networks.discriminator.double()
    reals, fakes = reals.double(), torch.zeros_like(reals).double()
    alpha = same_noise.alpha.double()
    found = discriminator_loss(discriminator, reals, fakes, alpha, 0.0, penalty=4.0, r1=True)
    # The slope along the gradient's direction is its length. Minibatch stddev ties images of a group
    # together; so move all at once.
    moved = reals.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(moved, 0.0).sum(), moved)
    step = 1e-6 * gradient
    rise = discriminator(reals + step, 0.0).sum() - discriminator(reals - step, 0.0).sum()
    squares = found.interpolated.norms.square()
    assert squares.sum().item() == pytest.approx(rise.item() / 2e-6, rel=1e-4)
    plain = discriminator_loss(discriminator, reals, fakes, alpha, 0.0, penalty=0.0)
    assert found.loss.item() == pytest.approx(plain.loss.item() + 2 * squares.mean().item())


@pytest.mark.parametrize("simultaneous", [False, True])
def test_d_and_g_learn_from_augmented_images_and_e_does_not(
    reals: Tensor, same_noise: StepNoise, simultaneous: bool
) -> None:
    uniforms = torch.rand(3, 8, 4, generator=torch.Generator().manual_seed(3))
    noise = same_noise._replace(augmentation=uniforms)
    settings = tiny_settings(simultaneous=simultaneous, differentiable_augmentation=True)
    after, report = iterate_once(settings, reals, noise)

    n = build().networks
    with torch.no_grad():
        fakes = n.generator(noise.generator * settings.latent_scale)
    real, fake = augment(reals, uniforms[0]), augment(fakes, uniforms[1])
    loss = discriminator_loss(n.discriminator, real, fake, noise.alpha, 0.0).loss
    assert report["D_loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    d = after.networks.discriminator if not simultaneous else n.discriminator
    of_g = augment(fakes, uniforms[1 if simultaneous else 2])
    assert report["G_loss"].item() == pytest.approx(
        generator_loss(d, of_g, 0.0).mean().item(), rel=1e-4
    )
    g = n.generator if simultaneous else after.networks.generator
    with torch.no_grad():
        fakes = g(noise.encoder * settings.latent_scale)
    expected = encoder_loss(g, n.encoder, fakes, 0.0)
    assert report["E_loss"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_encoder_learns_from_real_images_where_asked(
    reals: Tensor, same_noise: StepNoise
) -> None:
    plain, before = iterate_once(tiny_settings(simultaneous=True), reals, same_noise)
    settings = tiny_settings(simultaneous=True, encoder_reals=0.5)
    asked, report = iterate_once(settings, reals, same_noise)
    assert moved(parameters(plain), asked) == {"encoder"}
    n = build().networks
    more = 0.5 * encoder_loss(n.generator, n.encoder, reals, 0.0)
    assert report["E_loss"].item() == pytest.approx((before["E_loss"] + more).item(), rel=1e-4)
