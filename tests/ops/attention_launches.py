"""``python -m tests.ops.attention_launches``: whether launches compile what `shipped` says, and that once.

Triton is told of a GPU that is not there, and compiles for it without launching. Prints what differs.
"""

from __future__ import annotations

from typing import Any

import torch
from fastlm.kernels import Configuration, attention
from triton.backends.compiler import GPUTarget
from triton.runtime import driver


class Sm90:
    """As much of a driver as compiling asks for."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


class Compiling:
    """A kernel that is compiled where it would be launched; ``made`` are its hashes."""

    def __init__(self, name: str, kernel: Any) -> None:
        self.name, self.kernel, self.made = name, kernel, set[str]()

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def compile_it(**arguments: Any) -> None:
            self.found = self.kernel.warmup(grid=grid, **arguments)
            self.made.add(self.found.hash)

        return compile_it

    def differences(self, configuration: Configuration) -> list[str]:
        names = {name: tuple([i]) for i, name in enumerate(self.found.src.signature)}
        constants = {names[name]: value for name, value in configuration.constants.items()}
        found = []
        if self.found.src.signature != configuration.signature:
            found.append(f"{self.name}: signature {self.found.src.signature}")
        if self.found.src.constants != constants:
            found.append(f"{self.name}: constants {self.found.src.constants}")
        if (self.found.metadata.num_warps, self.found.metadata.num_stages) != (
            configuration.num_warps,
            configuration.num_stages,
        ):
            found.append(f"{self.name}: {self.found.metadata}")
        if any(self.found.src.attrs.values()):
            found.append(f"{self.name}: made for values, {self.found.src.attrs}")
        if len(self.made) > 1:
            found.append(f"{self.name}: {len(self.made)} were compiled, by the values of arguments")
        return found


def main() -> int:
    """Launch the forward and backward with values that Triton would make kernels of their own for."""
    driver.set_active(Sm90())
    shipped = {configuration.name: configuration for configuration in attention.shipped()}
    kernels = {name: Compiling(name, kernel) for name, kernel in attention._KERNELS.items()}
    attention._KERNELS.update(kernels)
    for lengths, heads, causal, dropout_p, seed in (((16,), 1, True, 0.9, 1), ((7, 18, 20), 3, False, 0.1, 2**40)):
        rows = sum(lengths)
        q, k, v = torch.randn(rows, 3, heads, 64, dtype=torch.bfloat16).unbind(1)
        starts = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        options = (starts, starts, max(lengths), max(lengths), causal, 0.125, dropout_p, torch.tensor(seed))
        out, lse = attention.attention_forward(q, k, v, *options)
        attention.attention_backward(out, q, k, v, out, lse, *options)
    found = [line for name, kernel in kernels.items() for line in kernel.differences(shipped[_shipped_name(name)])]
    print("\n".join(found))
    return len(found)


def _shipped_name(kernel: str) -> str:
    return f"{kernel} bf16 sentences head_dim=64 dropout"


if __name__ == "__main__":
    raise SystemExit(main())
