"""The manual: ``make docs``."""

from landscape import __version__

project = "landscape"
author = "the landscape developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"landscape {version}"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_ivar = True
suppress_warnings = ["myst.xref_missing"]


def setup(app):
    # In docstrings bars are absolute values; for reStructuredText they would be substitutions.
    def bars(app, what, name, obj, options, lines):
        lines[:] = [line.replace("|", "∣") for line in lines]

    app.connect("autodoc-process-docstring", bars)
