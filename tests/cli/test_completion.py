"""Shell completion knows the commands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("convae tra", ["train", "traverse", "translate"]),
        ("convae evaluate --seed 1 --seed 2 --spl", ["--split"]),  # which is not refused before it is complete
    ],
)
def test_commands_and_options_are_completed(line: str, found: list[str]) -> None:
    words = {"_CONVAE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": f"{line.count(' ')}"}
    done = subprocess.run(
        [sys.executable, "-m", "convae"], env=os.environ | words, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == found


def test_the_help_of_a_command_loads_neither_torch_nor_pydantic() -> None:
    code = (
        "import sys; from convae.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'pydantic', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
