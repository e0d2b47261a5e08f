"""The examples of docs/python.md run as they are written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from desk import bare

DOCS = Path(__file__).parent.parent / "docs" / "python.md"


def test_the_examples_run_one_after_the_other(tmp_path: Path):
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        subprocess.run(
            [sys.executable, "-W", "error", "-c", block],
            cwd=tmp_path,
            env=bare(),
            check=True,
            timeout=60,
        )
