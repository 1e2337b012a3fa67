"""The Gaussian reference distribution that Mahalanobis distances are measured from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from anowild.arrays import Array
from anowild.views.batches import product
from anowild.views.loading import check_tensors


class GaussianReference(nn.Module):
    """Mean and covariance of features; calling it returns Mahalanobis distances.

    Initialized to N(0, I) of ``size`` dimensions; :meth:`fit` or loading a state replaces that.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer(
            "whitening", torch.zeros(size, size, dtype=torch.float64).fill_diagonal_(1)
        )

    @staticmethod
    def of(mean: Tensor, whitening: Tensor) -> GaussianReference:
        """Return the reference of a mean [D] and a whitening matrix [D, D], float64, from a state.

        Raises:
            ValueError: they are of another shape or type.
        """
        size = mean.numel()
        check_tensors(
            {"mean": mean, "whitening": whitening},
            {"mean": ((size,), torch.float64), "whitening": ((size, size), torch.float64)},
        )
        reference = GaussianReference(size)
        reference.mean.copy_(mean)
        reference.whitening.copy_(whitening)
        return reference

    @staticmethod
    def fit(features: Array) -> GaussianReference:
        """Fit to features [N, D]; the covariance is shrunk as by Ledoit and Wolf (2004)."""
        from sklearn.covariance import ledoit_wolf

        x = np.asarray(features, np.float64)
        covariance, _ = ledoit_wolf(x)
        values, axes = np.linalg.eigh(covariance)
        # A feature that is constant in the sample says nothing; a value that differs all the same does.
        values = np.maximum(values, max(1e-6 * values[-1], 1e-12))
        return GaussianReference.of(
            torch.from_numpy(x.mean(axis=0)), torch.from_numpy(axes / np.sqrt(values))
        )

    @staticmethod
    def fit_trimmed(
        features: Array, shrinkage: float = 0.003, kept: float = 0.8, rounds: int = 3
    ) -> GaussianReference:
        """Fit to the nearest part of features [N, D], so that contamination does not move it.

        Features are standardized; the covariance is shrunk towards the identity. Each round keeps the
        features nearest to the fit of the round before.

        Args:
            shrinkage: weight of the identity.
            kept: share of the features that are kept.
            rounds: after the first fit, to all.

        Returns:
            The reference of the part that was kept last.
        """
        x = np.asarray(features, np.float64)
        count = max(2, round(kept * len(x)))
        chosen = x
        for round_ in range(rounds + 1):
            spread = chosen.std(axis=0)
            # A feature that hardly varies in the sample is not blown up.
            spread = np.maximum(spread, max(1e-3 * float(np.median(spread)), 1e-12))
            mean = chosen.mean(axis=0)
            unit = (chosen - mean) / spread
            covariance = (1 - shrinkage) * (unit.T @ unit) / len(unit)
            covariance[np.diag_indices_from(covariance)] += shrinkage
            values, axes = np.linalg.eigh(covariance)
            reference = GaussianReference.of(
                torch.from_numpy(mean),
                torch.from_numpy(axes / np.sqrt(values) / spread[:, None]),
            )
            if round_ < rounds:
                distances = reference(torch.from_numpy(x)).numpy()
                chosen = x[np.argsort(distances, kind="stable")[:count]]
        return reference

    def whitened(self, features: Tensor) -> Tensor:
        """Return features in units of the reference's spread: float64 [N, D], where the features lie."""
        device = features.device
        return product(features.double() - self.mean.to(device), self.whitening.to(device))

    def total_deviation(self) -> float:
        """Return the root of the sum of the variances of all dimensions."""
        colored = torch.linalg.inv(self.whitening)  # its square is the covariance
        return float(colored.square().sum().sqrt())

    def forward(self, features: Tensor) -> Tensor:
        """Mahalanobis distances, float64: [N, D] -> [N]."""
        return self.whitened(features).square().sum(dim=1).sqrt()
