"""What the README and the tutorial tell to type works, and so do the examples."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def blocks(page: Path) -> list[tuple[str, str]]:
    """The bash and Python blocks of a page, in order."""
    pattern = r"^```(bash|python)\n(.*?)^```"
    return re.findall(pattern, page.read_text(), re.M | re.S)


def commands(text: str) -> list[str]:
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("python ")]


def type_in(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr[-2000:]}"
    return done.stdout


def follow(page: Path, folder: Path) -> int:
    """Run the commands and snippets of a page in a folder that has the examples."""
    (folder / "examples").symlink_to(ROOT / "examples")
    count = 0
    for language, text in blocks(page):
        if language == "python":
            type_in([sys.executable, "-c", text], folder)
            count += 1
            continue
        for command in commands(text):
            # Through a shell, because a page may redirect into a file.
            line = command.replace("python", shlex.quote(sys.executable), 1)
            type_in(["bash", "-c", line], folder)
            count += 1
    return count


def test_the_readme_does_what_it_says(tmp_path):
    assert follow(ROOT / "README.md", tmp_path) == 5


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path):
    assert follow(ROOT / "docs" / "tutorial.md", tmp_path) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_runs(script, tmp_path):
    type_in([sys.executable, str(ROOT / "examples" / script)], tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_is_short_and_says_what_it_shows(script):
    text = (ROOT / "examples" / script).read_text()
    assert len(text.splitlines()) < 60
    assert text.startswith('"""')
