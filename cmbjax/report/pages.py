"""Templates and what they show to the text of a page.

Rule: text becomes HTML in a template and nowhere else, so that all of it is
escaped; a page asks for nothing from any network, and only the script that we
wrote runs in it.
"""

import base64
import functools
import hashlib
import importlib.resources
from typing import Any, NamedTuple

import jinja2
import markupsafe

import cmbjax
from cmbjax.report.texts import DASH


class Section(NamedTuple):
  """A part of a page under a heading.

  Attributes:
    name: id on the page, and the template in the page's folder.
    head: in the list of contents.
    title: above the section.
    content: `it` in the template.
  """

  name: str
  head: str
  title: str
  content: dict[str, Any]


def render(template: str, **values) -> str:
  """A page as text.

  Args:
    template: file in templates/.
    values: what it shows. `styles` are names of CSS files; `script` is the
      name of the page's script, none by default.

  Returns:
    HTML.
  """
  script = values.pop('script', None)
  values['script'] = _source(script) if script else ''
  return _environment().get_template(template).render(values)


@functools.cache  # templates are compiled once, also for many scans
def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('cmbjax.report'),
    autoescape=True,  # names come from configs and files of anybody
    undefined=jinja2.StrictUndefined,  # a slip is an error, not a gap
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.globals |= {
    'DASH': DASH,
    'policy': _policy,
    'source': _source,
    'version': cmbjax.__version__,
  }
  # A number that is not finite would be no JSON.
  environment.policies['json.dumps_kwargs'] = {'allow_nan': False}
  return environment


@functools.cache
def _source(name: str) -> markupsafe.Markup:
  """A style sheet or script of ours, which is not escaped."""
  folder = importlib.resources.files('cmbjax.report') / 'templates'
  return markupsafe.Markup((folder / name).read_text(encoding='utf-8'))


def _policy(script: str) -> markupsafe.Markup:
  """Content security policy: inline styles, data images, this one script."""
  allowed = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
  if script:
    # Of the whole text: a changed or added script does not run.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest())
    allowed += f"script-src 'sha256-{digest.decode()}'; "
  return markupsafe.Markup(allowed + "base-uri 'none'; form-action 'none'")
