"""What all our pages share: templates and the policy of a page.

Rule: a page asks for nothing from any network, and only the script that we
wrote runs in it.
"""

import base64
import hashlib
import importlib.resources


def read(name: str) -> str:
  """The text of a template file."""
  folder = importlib.resources.files('cmbjax.report') / 'templates'
  return (folder / name).read_text(encoding='utf-8')


def policy(script: str) -> str:
  """Content security policy: inline styles, data images, this one script."""
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  return (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
  )
