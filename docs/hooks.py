"""Show files of the repository that are not below ``docs`` as pages: results, model cards, changelog, contributing.

Links are written as they work in the repository. Here those that cross the border of ``docs`` are changed to where the
site has the same file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
MOUNTED = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/RESULTS.md",
    "benchmarks/**/*.png",
    "benchmarks/learning/**/table.md",
    "reason_envs/llm/embedded/*/MODEL_CARD.md",
)
"""Files of the repository that the site shows at the same path, as patterns."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the mounted files to the site."""
    for pattern in MOUNTED:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Change the links that cross the border of ``docs``."""
    up = "../" * page.file.src_uri.count("/")
    if page.file.generated_by is None:
        return markdown.replace(f"]({up}../", f"]({up}")
    return re.sub(
        rf"\]\({re.escape(up)}(docs/|README\.md)", lambda m: f"]({up}{'' if '/' in m[1] else 'index.md'}", markdown
    )
