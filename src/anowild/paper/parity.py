"""Parity with the reference implementation: networks, losses, training, schedule and scores.

``python -m anowild.paper.parity [FOLDER] [--device cuda]`` prints the worst relative error of each group
of arrays in ``FOLDER`` (tests/golden, whose README describes every array) and fails above 1e-10.
Everything is computed in float64, except what the reference computes in float32 (``process_reals``),
which must agree to the last bit on a CPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from anowild.arrays import Array
from anowild.device import select_device
from anowild.errors import UserError
from anowild.networks import Discriminator, Encoder, Generator
from anowild.networks.inputs import process_reals
from anowild.paper import reference
from anowild.presets import preset
from anowild.settings import Settings
from anowild.training.losses import discriminator_loss, encoder_loss, generator_loss
from anowild.training.networks import Networks
from anowild.training.noise import StepNoise
from anowild.training.optimizer import Adam
from anowild.training.schedule import Schedule, changes_level
from anowild.training.step import Step
from anowild.views import gan

TOLERANCE = 1e-10
CPU = torch.device("cpu")

#: Name of an array in a golden file, and its relative error.
Error = tuple[str, float]


class Golden:
    """A file of golden arrays, and the networks whose parameters are among them.

    Args:
        path: an .npz file.
        device: of tensors and networks.
    """

    def __init__(self, path: Path, device: torch.device = CPU) -> None:
        self.device = device
        with np.load(path, allow_pickle=False) as archive:
            self.arrays: dict[str, Array] = dict(archive)

    def __getitem__(self, key: str) -> Array:
        return self.arrays[key]

    def tensor(self, key: str, index: Any = ...) -> Tensor:
        return torch.tensor(self.arrays[key][index], dtype=torch.float64, device=self.device)

    def under(self, prefix: str) -> dict[str, Array]:
        """Return the arrays whose names start with ``prefix/``, by the rest of the name."""
        return {
            key.removeprefix(f"{prefix}/"): value
            for key, value in self.arrays.items()
            if key.startswith(f"{prefix}/")
        }

    def network(self, name: str, variables: str) -> Any:
        """Build G, D, E or Gs (the averaged G) in float64, with the parameters under ``variables``."""
        kind = {"G": Generator, "Gs": Generator, "D": Discriminator, "E": Encoder}[name]
        config = self.under("config")
        network = kind(
            resolution=int(config["resolution"]),
            channels=int(config["num_channels"]),
            fmap_base=int(config["fmap_base"]),
            fmap_max=int(config["fmap_max"]),
        ).to(self.device, torch.float64)
        reference.load_variables(network, self.under(variables))
        return network


def relative_error(ours: Any, golden: Array) -> float:
    """Return max |a - b| / max |b|; the absolute error if b is zero, infinity for another shape."""
    a = ours.detach().cpu().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    if a.shape != golden.shape:
        return float("inf")
    peak = float(np.abs(golden).max()) or 1.0
    return float(np.abs(a.astype(np.float64) - golden).max()) / peak


def networks(folder: Path, device: torch.device = CPU) -> Iterator[Error]:
    """Compare forward passes at every level of detail, and minibatch stddev at every batch size."""
    golden = Golden(folder / "a_nets.npz", device)
    nets = {name: golden.network(name, f"var/{name}") for name in ("G", "D", "E")}
    images = golden["in/images"]
    for key, expected in golden.arrays.items():
        group, _, rest = key.partition("/")
        if group == "out":
            name, lod = rest.split("/lod")
            x = golden["in/latents"] if name == "G" else images
            yield key, relative_error(reference.forward(nets[name], x, float(lod)), expected)
        elif group == "mbstd":
            name, count = rest.split("/n")
            x = np.concatenate([images, -images[:4]])[: int(count)]
            yield key, relative_error(reference.forward(nets[name], x), expected)


def _pooled(images: Tensor, lod: float) -> Tensor:
    """Reduce full-size images to the level's own size, as our networks take them."""
    scale = 2 ** int(lod)
    return torch.nn.functional.avg_pool2d(images, scale) if scale > 1 else images


def losses(folder: Path, device: torch.device = CPU) -> Iterator[Error]:
    """Compare the three losses, their terms, and their gradients in every parameter."""
    golden, source = Golden(folder / "a_losses.npz", device), Golden(folder / "a_nets.npz", device)
    settings = preset("paper-cifar10").settings()
    for lod in (0.0, 0.7):
        at = f"lod{lod:g}"
        g, d, e = (source.network(name, f"var/{name}") for name in ("G", "D", "E"))
        z = {name: 0.1 * golden.tensor(f"in/z{name}_normal") for name in "GDE"}
        reals, alpha = _pooled(golden.tensor("in/reals"), lod), golden.tensor("in/mix")

        g_losses = generator_loss(d, g(z["G"], lod), lod)
        parts = discriminator_loss(
            d, reals, g(z["D"], lod).detach(), alpha, lod,
            penalty=settings.gradient_penalty, target=settings.gradient_target, drift=settings.drift,
        )  # fmt: skip
        assert parts.interpolated is not None
        e_loss = encoder_loss(g, e, g(z["E"], lod).detach(), lod)
        yield f"{at}/G_loss_per_sample", relative_error(g_losses, golden[f"{at}/G_loss_per_sample"])
        ours: dict[str, Tensor] = {
            "G_loss": g_losses.mean(),
            "D_loss": parts.loss,
            "D_real_scores": parts.real_scores,
            "D_fake_scores": parts.fake_scores,
            "D_mixed_scores": parts.interpolated.scores,
            "D_mixed_norms": parts.interpolated.norms,
            "D_epsilon_penalty": parts.real_scores.square(),
            "D_term_wasserstein": (parts.fake_scores - parts.real_scores).mean(),
            "D_term_gp_unweighted": (parts.interpolated.norms - 1).square().mean(),
            "D_term_epsilon_unweighted": parts.real_scores.square().mean(),
            "E_loss": e_loss,
        }
        for name, value in ours.items():
            yield f"{at}/{name}", relative_error(value, golden[f"{at}/{name}"])
        # The reference broadcasts the loss to an [N, N] matrix by mistake; its mean is the loss.
        matrix = golden[f"{at}/D_loss_matrix"]
        yield f"{at}/D_loss_matrix (mean)", relative_error(parts.loss, np.asarray(matrix.mean()))
        if f"{at}/D_mixed_grads" in golden.arrays:
            yield f"{at}/D_mixed_grads", _interpolated_gradient_error(golden, d, g, z["D"], lod)

        for name, network, loss in (
            ("G", g, g_losses.mean()),
            ("D", d, parts.loss),
            ("E", e, e_loss),
        ):
            # Each loss trains its own network only.
            for other in (g, d, e):
                other.zero_grad()
            torch.autograd.backward(loss, retain_graph=True)
            for variable, gradient in reference.export(network, lambda p: p.grad).items():
                key = f"{at}/grad/{name}/{variable}"
                yield key, relative_error(gradient, golden[key])


def _interpolated_gradient_error(
    golden: Golden, d: Discriminator, g: Generator, z: Tensor, lod: float
) -> float:
    """Compare the gradient at the interpolated images, at full size as in the reference."""
    reals = golden.tensor("in/reals")
    fakes = reference.forward(g, z, lod).detach()
    between = (reals + (fakes - reals) * golden.tensor("in/mix")).requires_grad_(True)
    (gradient,) = torch.autograd.grad(reference.forward(d, between, lod).sum(), between)
    return relative_error(gradient, golden[f"lod{lod:g}/D_mixed_grads"])


def traces(folder: Path, device: torch.device = CPU) -> Iterator[Error]:
    """Compare six iterations of training: losses, scores, and all parameters after 1, 3 and 6."""
    for file in ("a_trace_lod0", "a_trace_fade"):
        golden = Golden(folder / f"{file}.npz", device)
        hyper = {name: float(value) for name, value in golden.under("hyper").items()}
        settings = Settings(
            adam_beta1=hyper["beta1"],
            adam_beta2=hyper["beta2"],
            adam_epsilon=hyper["eps"],
            learning_rate=hyper["lr"],
            ema_decay=hyper["ema"],
        )
        nets = Networks.from_networks(*(golden.network(n, f"init/{n}") for n in ("G", "D", "E")))
        step = Step(nets, settings)
        previous = -1.0
        for i, lod in enumerate(golden["lods"].tolist()):
            reset = previous < 0 or changes_level(previous, lod)
            previous = lod
            yield (
                f"{file}/reset_optimizer_before[{i}]",
                float(reset != bool(golden["reset_optimizer_before"][i])),
            )
            if reset:
                for optimizer in step.optimizers.values():
                    optimizer.reset()
            report = step(
                _pooled(golden.tensor("reals", i), lod),
                StepNoise(*(golden.tensor(k, i) for k in ("z_normal_D", "mix", "z_normal_G", "z_normal_E"))),
                lod, settings.learning_rate, settings.ema_decay,
            )  # fmt: skip
            for ours, theirs in (
                ("G_loss", "G_loss"),
                ("D_loss", "D_loss"),
                ("E_loss", "E_loss"),
                ("real_score", "D_real_scores"),
                ("fake_score", "D_fake_scores"),
                ("gradient_norm", "D_mixed_norms"),
            ):
                yield f"{file}/{theirs}[{i}]", relative_error(report[ours], golden[theirs][i])
            for name, network in (
                ("G", nets.generator),
                ("D", nets.discriminator),
                ("E", nets.encoder),
                ("Gs", nets.average_generator),
            ):
                expected = golden.under(f"after{i + 1}/{name}")
                for variable, value in reference.export(network).items() if expected else ():
                    key = f"{file}/after{i + 1}/{name}/{variable}"
                    yield key, relative_error(value, expected[variable])


def fades(folder: Path, device: torch.device = CPU) -> Iterator[Error]:
    """Compare real images as the networks see them while a level fades in (``process_reals``)."""
    golden = Golden(folder / "process_reals.npz", device)
    for key, expected in golden.arrays.items():
        if "/out_" not in key:
            continue
        config, at, kind = key.split("/")
        lod = float(at.removeprefix("lod"))
        flips = golden[f"{config}/mirror_uniform"].ravel() >= 0.5 if "mirror" in kind else None
        reals = process_reals(
            torch.from_numpy(golden[f"{config}/{at}/in_uint8"]).to(device),
            lod,
            None if flips is None else torch.from_numpy(flips).to(device),
            dtype=torch.float64 if "float64" in kind else torch.float32,
        )
        yield (
            f"process_reals/{key}",
            relative_error(reference.to_full_size(reals, 2 ** int(lod)), expected),
        )


def schedule(folder: Path, device: torch.device = CPU) -> Iterator[Error]:
    """Compare level of detail, minibatch, learning rate, ticks, and resets of the optimizers."""
    golden = Golden(folder / "schedule.npz", device)
    settings = preset("paper-cifar10").settings()
    for resolution in (32, 64, 256):
        ours, at = Schedule(settings, resolution), f"res{resolution}"
        points = [ours.at(int(nimg)) for nimg in golden[f"{at}/cur_nimg"]]
        for theirs, name in (
            ("lod", "lod"),
            ("resolution", "resolution"),
            ("minibatch", "minibatch"),
            ("G_lrate", "learning_rate"),
            ("D_lrate", "learning_rate"),
            ("tick_kimg", "tick_kimg"),
        ):
            values = np.array([getattr(point, name) for point in points])
            yield f"schedule/{at}/{theirs}", relative_error(values, golden[f"{at}/{theirs}"])
        for name, value in _simulated_loop(ours, settings).items():
            yield f"schedule/{at}/{name}", relative_error(value, golden[f"{at}/{name}"])


def _simulated_loop(ours: Schedule, settings: Settings) -> dict[str, Array]:
    """Return the counters of a whole run, simulated without training."""
    nimg, outer, previous, ticks = 0, 0, -1.0, [0]
    resets: list[tuple[int, int, float, int]] = []
    total = settings.kimg * 1000
    while nimg < total:
        point = ours.at(nimg)
        if previous < 0 or changes_level(previous, point.lod):
            resets.append((nimg, outer, point.lod, point.minibatch))
        previous = point.lod
        nimg += point.minibatch * settings.minibatch_repeats
        outer += 1
        if nimg >= ticks[-1] + point.tick_kimg * 1000 or nimg >= total:
            ticks.append(nimg)
    columns = zip(*resets, strict=True)
    names = ("loop_reset_nimg", "loop_reset_outer_iter", "loop_reset_lod", "loop_reset_minibatch")
    return {
        **{name: np.array(column) for name, column in zip(names, columns, strict=True)},
        "loop_outer_iters": np.array(outer),
        "loop_final_nimg": np.array(nimg),
        "loop_num_ticks": np.array(len(ticks) - 1),
        "loop_first_20_tick_nimg": np.array(ticks[1:21]),
    }


def adam(folder: Path, device: torch.device = CPU) -> Iterator[Error]:
    """Compare Adam with both conventions for epsilon."""
    golden = Golden(folder / "adam_epsilon.npz", device)
    for key, hat in (("x_float64", True), ("x_epsilon_inside_bias_correction", False)):
        x = torch.nn.Parameter(golden.tensor("x0"))
        settings = Settings(
            adam_beta1=float(golden["beta1"]),
            adam_beta2=float(golden["beta2"]),
            adam_epsilon=float(golden["eps"]),
            adam_epsilon_hat=hat,
        )
        optimizer = Adam([x], settings)
        path = []
        for gradient in golden.tensor("grads"):
            optimizer.step([gradient], float(golden["lr"]))
            path.append(x.detach().clone())
        yield f"adam_epsilon/{key}", relative_error(torch.stack(path), golden[key])


def scoring(folder: Path, device: torch.device = CPU) -> Iterator[Error]:
    """Compare latents, reconstructions and cues with the released evaluation, which uses batches."""
    golden, source = Golden(folder / "a_scoring.npz", device), Golden(folder / "a_nets.npz", device)
    g, d, e = (source.network(name, f"var/{name}") for name in ("Gs", "D", "E"))
    images = golden.tensor("images")
    with torch.no_grad():
        latents = reference.forward(e, images)
        rebuilt = reference.forward(g, latents)
        features, rebuilt_features = d.features(images), d.features(rebuilt)
        alone = torch.cat([reference.forward(e, x[None]) for x in images])
        rebuilt_alone = reference.forward(g, alone)
    residuals = gan.residual(images, rebuilt)
    distances = gan.feature_distance(features, rebuilt_features)
    pixels, values = images[0].numel(), features[0].numel()
    ours = {
        "latent": latents,
        "latent_l2": gan.latent_norm(latents),
        "recon": rebuilt,
        "residual_mean": residuals,
        "residual_sum": residuals * pixels,
        "feat_input": features,
        "feat_recon": rebuilt_features,
        "feat_l1_mean": distances,
        "feat_l1_sum": distances * values,
        "latent_batch1": alone,
        "latent_l2_batch1": gan.latent_norm(alone),
        "residual_mean_batch1": gan.residual(images, rebuilt_alone),
        "ano_score_2019_sum_lambda0.1": 0.9 * residuals * pixels + 0.1 * distances * values,
    }
    for name, value in ours.items():
        yield f"scoring/{name}", relative_error(value, golden[name])


GROUPS: dict[str, Callable[[Path, torch.device], Iterator[Error]]] = {
    "networks": networks,
    "losses and gradients": losses,
    "training traces": traces,
    "fades of real images": fades,
    "schedule": schedule,
    "Adam": adam,
    "scoring": scoring,
}


class Worst(NamedTuple):
    """The number of arrays compared in a group, and the one with the largest error."""

    arrays: int
    key: str
    error: float


def worst(folder: Path, device: torch.device = CPU) -> dict[str, Worst]:
    """Compare all groups on a device, and return the worst array of each."""
    found = {}
    for name, group in GROUPS.items():
        errors = list(group(folder, device))
        # NaN counts as infinite, because comparisons with it are always false.
        key, error = max(errors, key=lambda pair: float("inf") if pair[1] != pair[1] else pair[1])
        found[name] = Worst(len(errors), key, error)
    return found


def main(arguments: list[str]) -> int:
    """Run the command, and return its exit status: 1 above the tolerance, 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m anowild.paper.parity")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("tests/golden"))
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    if not (given.folder / "a_nets.npz").exists():
        print(
            f"{given.folder}: holds no golden arrays; name the folder that has them",
            file=sys.stderr,
        )
        return 2
    try:
        found = worst(given.folder, select_device(given.device))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{'group':24} {'arrays':>6}  {'worst relative error':>20}  worst array")
    for name, group in found.items():
        print(f"{name:24} {group.arrays:6}  {group.error:20.1e}  {group.key}")
    agrees = all(group.error <= TOLERANCE for group in found.values())
    print(
        f"worst of all {max(group.error for group in found.values()):.1e}, "
        f"tolerance {TOLERANCE:.0e}: {'ok' if agrees else 'FAILED'}"
    )
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
