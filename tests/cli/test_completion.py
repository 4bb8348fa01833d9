"""Shell completion knows the commands."""

from __future__ import annotations

import os
import subprocess
import sys


def test_the_commands_are_completed() -> None:
    words = {"_CONVAE_COMPLETE": "complete_bash", "COMP_WORDS": "convae tra", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "convae"], env=os.environ | words, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["train", "traverse", "translate"]


def test_the_help_of_a_command_loads_neither_torch_nor_pydantic() -> None:
    code = (
        "import sys; from convae.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'pydantic', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
