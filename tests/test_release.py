"""What `.ci/release.py` says of versions that do not agree; `make release-check` runs all of it."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RELEASE: dict[str, Any] = runpy.run_path(str(ROOT / ".ci" / "release.py"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository whose commit can be released."""
    (tmp_path / "src" / "anowild").mkdir(parents=True)
    (tmp_path / "src" / "anowild" / "version.py").write_text('VERSION = "0.10.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## 0.10.0 (2026-12-01)\n\n- New.\n\n## 0.9.1 (2026-11-30)\n\n- Old.\n"
    )
    (tmp_path / "CITATION.cff").write_text("version: 0.10.0\ndate-released: 2026-12-01\n")
    for words in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "release"),
    ):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    return tmp_path


def test_versions_of_this_repository_agree() -> None:
    assert RELEASE["problems"](ROOT) == []


def test_a_commit_of_a_release_has_no_problems(tree: Path) -> None:
    assert RELEASE["problems"](tree) == []
    assert RELEASE["problems_of_commit"](tree) == []


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("src/anowild/version.py", "0.10.0", "0.10", "not of the form MAJOR.MINOR.PATCH"),
        ("src/anowild/version.py", "0.10.0", "0.10.0rc1", "not of the form MAJOR.MINOR.PATCH"),
        ("src/anowild/version.py", "0.10.0", "0.11.0", "the first entry is not of 0.11.0"),
        ("CHANGELOG.md", "0.9.1", "0.8.1", "0.10.0 does not follow 0.8.1"),
        ("CHANGELOG.md", "## 0.9.1", "## Unreleased", "0.10.0 does not follow Unreleased"),
        ("CHANGELOG.md", "## 0.10.0", "## Unreleased\n\n## 0.10.0", "the first entry is not of"),
        ("CITATION.cff", "version: 0.10.0\n", "", "has no line 'version: 0.10.0'"),
    ],
)
def test_versions_that_do_not_agree_are_told(
    tree: Path, file: str, before: str, after: str, said: str
) -> None:
    path = tree / file
    path.write_text(path.read_text().replace(before, after))
    assert said in "\n".join(RELEASE["problems"](tree))


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("CHANGELOG.md", "2026-12-01", "unreleased", "not '## 0.10.0 (YYYY-MM-DD)'"),
        ("CITATION.cff", "2026-12-01", "2026-12-02", "'date-released: 2026-12-01'"),
        ("new.txt", "", "text", "?? new.txt"),
    ],
)
def test_what_a_commit_of_a_release_misses_is_told(
    tree: Path, file: str, before: str, after: str, said: str
) -> None:
    path = tree / file
    path.write_text(path.read_text().replace(before, after) if path.exists() else after)
    assert said in "\n".join(RELEASE["problems_of_commit"](tree))


def test_a_version_is_released_once(tree: Path) -> None:
    subprocess.run(["git", "-C", tree, "tag", "v0.10.0"], check=True)
    assert RELEASE["problems_of_commit"](tree) == ["the tag v0.10.0 is there already"]
