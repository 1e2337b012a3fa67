"""Adam, with either of two conventions for epsilon."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from anowild.settings import Settings

#: What PyTorch's Adam keeps of each parameter.
_STATE = ("step", "exp_avg", "exp_avg_sq")


class Adam:
    """PyTorch's Adam, with TensorFlow's epsilon where the settings ask for it.

    TensorFlow adds epsilon to the root of the *uncorrected* second moment ("epsilon hat",
    Kingma & Ba 2015, end of section 2), PyTorch to that of the corrected one. With PyTorch's
    epsilon set to ``epsilon / sqrt(1 - beta2^t)`` before step t, the two agree.

    Args:
        parameters: of one network.
        settings: Adam's settings are used.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], settings: Settings) -> None:
        self.parameters = list(parameters)
        self.settings = settings
        self.resets = 0
        self.reset()

    def reset(self) -> None:
        """Reset both moments and the step counter."""
        s = self.settings
        self.count = 0
        self.resets += 1  # the moments are new tensors from here on
        self._adam = torch.optim.Adam(
            self.parameters,
            lr=s.learning_rate,
            betas=(s.adam_beta1, s.adam_beta2),
            eps=s.adam_epsilon,
            fused=True,
        )

    @property
    def settled(self) -> bool:
        """Whether epsilon is constant in float32; with beta2 = 0.99 from step 1,725 on."""
        return not self.settings.adam_epsilon_hat or self.settings.adam_beta2**self.count < 2**-25

    @contextmanager
    def capturable(self) -> Iterator[None]:
        """Let a CUDA graph capture a step, with the present learning rate and epsilon built in."""
        (group,) = self._adam.param_groups
        group["capturable"] = True
        try:
            yield
        finally:
            group["capturable"] = False

    def step(
        self,
        gradients: Iterable[Tensor | None],
        learning_rate: float,
        skip: Tensor | None = None,
    ) -> None:
        """Update the parameters. Those without a gradient, of levels that do not run, stay.

        The reference passes a gradient of zero for them. The effect is the same, because other levels
        run only after the moments were reset.

        Args:
            gradients: one for each parameter, or None.
            learning_rate: of this step.
            skip: a scalar on the device; if it is 1, parameters and moments stay unchanged. ``count``
                advances even then, because reading ``skip`` would wait for a GPU; it affects
                epsilon alone.
        """
        self.count += 1
        (group,) = self._adam.param_groups
        group["lr"] = learning_rate
        if self.settings.adam_epsilon_hat:
            correction = math.sqrt(1.0 - self.settings.adam_beta2**self.count)
            group["eps"] = self.settings.adam_epsilon / correction
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            # The fused kernel reads memory in order, so both must have the same layout.
            if gradient is not None and gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter).copy_(gradient)
            parameter.grad = gradient
        # PyTorch's gradient scaler sets this attribute for the same purpose.
        self._adam.found_inf = skip  # type: ignore[attr-defined]
        self._adam.step()
        for parameter in self.parameters:
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Return all state except ``count``, under '<index of the parameter>/<name>'."""
        return {
            f"{index}/{name}": value
            for index, parameter in enumerate(self.parameters)
            for name, value in self._adam.state.get(parameter, {}).items()
        }

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Check that :meth:`load` can restore a state: a wrong shape would write beyond the memory of a tensor.

        Raises:
            ValueError: names, shapes, types or values are not those of this optimizer's state.
        """
        known = {
            f"{index}/{name}": () if name == "step" else parameter.shape
            for index, parameter in enumerate(self.parameters)
            for name in _STATE
        }
        for key, value in tensors.items():
            if key not in known:
                raise ValueError(f"there is no parameter for '{key}'")
            if value.shape != known[key] or value.dtype != torch.float32:
                raise ValueError(f"{key} is {value.dtype} {list(value.shape)}")
            signed = key.endswith("/exp_avg")
            if not value.isfinite().all() or (not signed and (value < 0).any()):
                raise ValueError(f"{key} has impossible values")
            index = key.partition("/")[0]
            if any(f"{index}/{name}" not in tensors for name in _STATE):
                raise ValueError(f"the state of parameter {index} is not whole")

    def load(self, count: int, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state from ``count`` and :meth:`tensors`.

        Raises:
            ValueError: as :meth:`check`; nothing is changed then.
        """
        self.check(tensors)
        self.reset()
        self.count = count
        for key, value in tensors.items():
            index, name = key.split("/")
            parameter = self.parameters[int(index)]
            # Moments take the parameter's memory layout, and all take its device.
            like = value if name == "step" else parameter
            own = torch.empty_like(like, device=parameter.device)
            self._adam.state[parameter][name] = own.copy_(value)
