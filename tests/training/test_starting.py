"""What a training imports before its first step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SLOW = ("torch._dynamo", "torch._inductor", "sympy", "matplotlib", "pandas", "transformers", "diffusers")
SCRIPT = f"""
import sys
import numpy as np
import convae
from convae.training.loop.trainer import Callback

class Stop(Callback):
    def on_step_end(self, trainer):
        print("imported:", [name for name in {SLOW!r} if name in sys.modules])
        sys.stdout.flush()
        trainer.stop()

data = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 1), np.uint8)
model = {{"preset": "torch-vae", "input": [1, 16, 16], "latent": 2}}
training = {{"batch_size": 64, "steps": 8, "pictures_every": 0}}
convae.train({{"model": model, "training": training}}, data=data, channels_last=True, out=sys.argv[1], callback=Stop())
"""


# In a process of its own, as the tests import all of them.
def test_the_first_step_imports_neither_compiler_nor_plots(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "imported: []" in done.stdout, done.stdout + done.stderr
