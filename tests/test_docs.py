"""The examples of the documentation run as written."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_examples_of_the_api_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.S)
    assert len(code) == 2
    for block in code:
        exec(compile(block, "docs/api.md", "exec"), {"__name__": "example"})
    assert (tmp_path / "runs/api/report/index.html").is_file()
