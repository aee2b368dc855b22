"""A hook of mkdocs: the footer of each page shows the version of snnjax."""

from importlib.metadata import version

from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the version into the footer, where themes show a copyright."""
    config.copyright = f"snnjax {version('snnjax')}"
    return config
