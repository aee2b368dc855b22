"""An mkdocs hook that shows the version of snnjax in the footer of each page."""

from importlib.metadata import version

from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the version in the place of the copyright notice, which themes show in the footer."""
    config.copyright = f"snnjax {version('snnjax')}"
    return config
