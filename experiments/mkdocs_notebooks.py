"""An mkdocs hook that copies the notebooks to the site and makes the links in pages point to the copies."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FOLDER = Path(__file__).parent / "notebooks"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the notebooks to the files of the site."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Makes links to notebooks point to the copies, which are in the folder of the pages."""
    return re.sub(r"\]\(\.\./((?:\.\./)*notebooks/)", r"](\1", markdown)
