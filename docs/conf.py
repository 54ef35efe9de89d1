"""Sphinx configuration."""

import pyg_diffrec

project = 'pyg-diffrec'
author = 'The pyg-diffrec authors'
version = release = pyg_diffrec.__version__
extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
]
source_suffix = ['.md', '.rst']
exclude_patterns = ['_build', 'package.md']  # That is of the package index.
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'
napoleon_custom_sections = ['Shapes', 'Yields']
html_theme = 'alabaster'
html_theme_options = {'description': 'Diffusion models for recommendation on PyG'}
suppress_warnings = ['myst.xref_missing']
