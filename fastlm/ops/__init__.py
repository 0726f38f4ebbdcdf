"""The ops of fastlm: names and arguments follow PyTorch's; ``backend=`` says how, never what.

``reference.py`` is their specification, ``_backend.py`` decides which kernels run, and each other file is one op from
its registered schema to its public function.
"""

from fastlm.ops._backend import (
    cpu_isa_fault,
    environment_fault,
    explain,
    load_native,
    load_triton,
    native_fault,
    native_ops,
    set_backend,
    triton_fault,
    use_backend,
)
from fastlm.ops._checks import set_checks
from fastlm.ops.adam import adam_
from fastlm.ops.attention import attention
from fastlm.ops.cross_entropy import cross_entropy
from fastlm.ops.layer_norm import DropoutAddLayerNormOutput, dropout_add_layer_norm, layer_norm
from fastlm.ops.linear_cross_entropy import LinearCrossEntropyOutput, linear_cross_entropy
from fastlm.ops.softmax import softmax
from fastlm.ops.total_norm import total_norm

load_native()  # after the schemas, so that a library of another fastlm is refused here and remembered as the reason
load_triton()

__all__ = [
    "DropoutAddLayerNormOutput",
    "LinearCrossEntropyOutput",
    "adam_",
    "attention",
    "cpu_isa_fault",
    "cross_entropy",
    "dropout_add_layer_norm",
    "environment_fault",
    "explain",
    "layer_norm",
    "linear_cross_entropy",
    "native_fault",
    "native_ops",
    "set_backend",
    "set_checks",
    "softmax",
    "total_norm",
    "triton_fault",
    "use_backend",
]
