"""The documentation: `make docs`, then build/docs/index.html.

Rule: what the program knows of itself is asked of the program while building
(configs, command line, API, model cards); see generate.py.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import generate  # noqa: E402
import plain_docstrings  # noqa: E402

import cmbjax  # noqa: E402

project = 'cmbjax'
author = 'The cmbjax developers'
project_copyright = f'{author}; Apache-2.0'
version = release = cmbjax.__version__

extensions = [
  'myst_nb',
  'sphinx.ext.autodoc',
]
source_suffix = {'.md': 'myst-nb', '.ipynb': 'myst-nb'}
# These are parts of other pages.
exclude_patterns = ['generated/configs.md', 'generated/cards.md']
default_role = 'code'
myst_enable_extensions = ['attrs_block', 'colon_fence', 'deflist']
myst_heading_anchors = 3
nb_execution_mode = 'off'  # the tests run the notebooks
nb_merge_streams = True

# Everything of ours that is named has to exist; other libraries would have to
# be looked up in the network.
nitpicky = True
nitpick_ignore_regex = [('py:.*', r'(?!cmbjax).*')]
suppress_warnings = ['config.cache']

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # they stand in the signature as written
autodoc_preserve_defaults = True
autodoc_default_options = {'members': True}
python_maximum_signature_line_length = 76
add_module_names = False
toc_object_entries = False

html_theme = 'furo'
html_title = f'cmbjax {release}'
html_static_path = ['static']
html_css_files = ['theme.css']
html_copy_source = False
html_show_sphinx = False
# Summaries are fetched, which a browser refuses to pages opened as files.
html_show_search_summary = False
_COLOURS = {
  'light': {
    'color-background-primary': '#fdfdfc',
    'color-background-secondary': '#f5f5f2',
    'color-foreground-primary': '#1d2126',
    'color-foreground-secondary': '#565d67',
    'color-foreground-muted': '#6a717b',
    'color-brand-primary': '#2f6694',
    'color-brand-content': '#2f6694',
    'color-brand-visited': '#6b63ad',
    'color-admonition-background': '#f5f5f2',
    'color-api-name': '#2f6694',
    'color-api-pre-name': '#565d67',
  },
  'dark': {
    'color-background-primary': '#15181c',
    'color-background-secondary': '#1d2126',
    'color-foreground-primary': '#e6e8ea',
    'color-foreground-secondary': '#b4bac2',
    'color-foreground-muted': '#9aa2ac',
    'color-brand-primary': '#8dbde3',
    'color-brand-content': '#8dbde3',
    'color-brand-visited': '#aaa3e6',
    'color-admonition-background': '#1d2126',
    'color-api-name': '#8dbde3',
    'color-api-pre-name': '#b4bac2',
  },
}
_FONTS = {
  'font-stack': 'system-ui, -apple-system, "Segoe UI", Roboto, '
  '"Liberation Sans", Arial, sans-serif',
  'font-stack--headings': '"Iowan Old Style", "Palatino Linotype", Palatino, '
  '"Book Antiqua", Georgia, "Liberation Serif", serif',
}
html_theme_options = {
  'light_css_variables': _COLOURS['light'] | _FONTS,
  'dark_css_variables': _COLOURS['dark'],
  'sidebar_hide_name': False,
}


def setup(app):
  """Writes the generated pages before Sphinx looks for pages."""
  app.connect('builder-inited', lambda app: generate.everything(HERE))
  plain_docstrings.connect(app)
