"""The Gaussian reference distribution that Mahalanobis distances are measured from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from anowild.arrays import Array


class GaussianReference(nn.Module):
    """Mean and covariance of features; calling it returns Mahalanobis distances.

    Initialized to N(0, I) of ``size`` dimensions; :meth:`fit` or loading a state replaces that.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("whitening", torch.eye(size, dtype=torch.float64))

    @staticmethod
    def fit(features: Array) -> GaussianReference:
        """Fit to features [N, D]; the covariance is shrunk as by Ledoit and Wolf (2004)."""
        from sklearn.covariance import ledoit_wolf

        x = np.asarray(features, np.float64)
        covariance, _ = ledoit_wolf(x)
        values, axes = np.linalg.eigh(covariance)
        # A feature that is constant in the sample says nothing; a value that differs all the same does.
        values = np.maximum(values, max(1e-6 * values[-1], 1e-12))
        reference = GaussianReference(x.shape[1])
        reference.mean.copy_(torch.from_numpy(x.mean(axis=0)))
        reference.whitening.copy_(torch.from_numpy(axes / np.sqrt(values)))
        return reference

    def whitened(self, features: Tensor) -> Tensor:
        """Return features in units of the reference's spread: float64 [N, D], where the features lie."""
        device = features.device
        return (features.double() - self.mean.to(device)) @ self.whitening.to(device)

    def forward(self, features: Tensor) -> Tensor:
        """Mahalanobis distances, float64: [N, D] -> [N]."""
        return self.whitened(features).square().sum(dim=1).sqrt()
