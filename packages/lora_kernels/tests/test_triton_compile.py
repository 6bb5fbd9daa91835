"""The kernels compile for GPUs that this machine need not have."""

import os
import subprocess
import sys

import pytest

from llgbm.lora_kernels.backends import has_triton

SCRIPT = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from llgbm.lora_kernels import triton_kernels as kernels

arch = int(sys.argv[1])
blocks = {"BLOCK_M": 32, "BLOCK_K": 64, "BLOCK_R": 16}
for kernel in (kernels.shrink_kernel, kernels.expand_kernel, kernels.outer_kernel):
    signature, constants = {}, {}
    for name in kernel.arg_names:
        if name in blocks or name == "SCALED":
            constants[(kernel.arg_names.index(name),)] = blocks.get(name, True)
            signature[name] = "constexpr"
        elif name.endswith("_ptr"):
            factor = name in ("scale_ptr", "g_ptr") or (name == "w_ptr")
            signature[name] = "*fp32" if factor else "*bf16"
        else:
            signature[name] = "i32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = compile(source, target=GPUTarget("cuda", arch, 32))
    assert len(compiled.asm["cubin"]) > 1000
    print(kernel.__name__, len(compiled.asm["cubin"]))
"""


@pytest.mark.skipif(not has_triton(), reason="Triton is not installed")
@pytest.mark.parametrize("arch", [80, 90])
def test_every_kernel_compiles(arch) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(arch)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("_kernel") == 3
