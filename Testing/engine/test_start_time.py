"""What a program's first registration does not load: PyTorch's compiler, seconds of waiting for nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

_REGISTER = """
from autofuse_engine.configs import RegistrationConfig
from autofuse_engine.data.synthetic import make_pair
from autofuse_engine.registration import register

pair = make_pair(seed=3, shape=(20, 26, 22))
register(pair.fixed, pair.moving, RegistrationConfig(model="none", initial="centers", refinement_steps=1))
"""
_LOAD = """
import torch
from autofuse_engine.catalog import SHIPPED_FOLDER
from autofuse_engine.networks.build import describe_networks
from autofuse_engine.prediction import ModelCache

shipped = sorted(SHIPPED_FOLDER.glob("*.safetensors"))
assert shipped
for weights in shipped:
    ModelCache().get(str(weights), torch.device("cpu"), "float32")
describe_networks()
"""
_LOADED = """
import sys
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""


@pytest.mark.parametrize("work", [_REGISTER, _LOAD], ids=["register", "load models"])
def test_the_compiler_is_not_loaded(work: str) -> None:
    done = subprocess.run([sys.executable, "-c", work + _LOADED], capture_output=True, encoding="utf-8")
    assert done.stdout.strip() == "[]", done.stderr
