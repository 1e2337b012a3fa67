"""Adam, in either of two conventions for epsilon."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from anowild.settings import Settings


class Adam:
    """torch's Adam with the step counter in one place, so that epsilon can follow TensorFlow.

    TensorFlow adds epsilon to the root of the *uncorrected* second moment ("epsilon hat",
    Kingma & Ba 2015, end of section 2); torch adds it to the corrected one. With torch's
    epsilon set to ``epsilon / sqrt(1 - beta2^t)`` before step t, the two agree.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], settings: Settings) -> None:
        self.parameters = list(parameters)
        self.settings = settings
        self.resets = 0
        self.reset()

    def reset(self) -> None:
        """Forget both moments and the counter."""
        s = self.settings
        self.count = 0
        self.resets += 1  # the moments are other tensors from now on
        self._adam = torch.optim.Adam(
            self.parameters,
            lr=s.learning_rate,
            betas=(s.adam_beta1, s.adam_beta2),
            eps=s.adam_epsilon,
            fused=True,
        )

    @property
    def settled(self) -> bool:
        """Whether epsilon, as a float32, no longer depends on the count: from step 1,725 on."""
        return not self.settings.adam_epsilon_hat or self.settings.adam_beta2**self.count < 2**-25

    @contextmanager
    def capturable(self) -> Iterator[None]:
        """Inside, a CUDA graph can record a step, with learning rate and epsilon as they are now."""
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
        """One update. A parameter without a gradient (of a level that does not run) stays.

        The reference hands those a gradient of zero; that is the same here, because the levels
        that run change only where the moments are reset.

        Args:
            skip: a scalar; where it is 1, parameters and moments stay as they are. (``count``
                goes on, so that nobody has to wait for a GPU's answer: it decides epsilon alone.)
        """
        self.count += 1
        (group,) = self._adam.param_groups
        group["lr"] = learning_rate
        if self.settings.adam_epsilon_hat:
            correction = math.sqrt(1.0 - self.settings.adam_beta2**self.count)
            group["eps"] = self.settings.adam_epsilon / correction
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            # The fused kernel reads flat memory: both have to lie in the same layout.
            if gradient is not None and gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter).copy_(gradient)
            parameter.grad = gradient
        # What torch's gradient scaler sets for the same purpose.
        self._adam.found_inf = skip  # type: ignore[attr-defined]
        self._adam.step()
        for parameter in self.parameters:
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """All state but ``count``, by '<index of the parameter>/<name>'."""
        return {
            f"{index}/{name}": value
            for index, parameter in enumerate(self.parameters)
            for name, value in self._adam.state.get(parameter, {}).items()
        }

    def load(self, count: int, tensors: dict[str, Tensor]) -> None:
        """Take up the state that :meth:`tensors` and ``count`` gave."""
        self.reset()
        self.count = count
        for key, value in tensors.items():
            index, name = key.split("/")
            parameter = self.parameters[int(index)]
            # What is as large as the parameter lies as it does in memory; all lies on its device.
            like = parameter if value.shape == parameter.shape else value
            own = torch.empty_like(like, device=parameter.device)
            self._adam.state[parameter][name] = own.copy_(value)
