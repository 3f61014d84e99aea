"""Cerebral microbleeds on SWI: scans to lesions, cohorts to fair studies.

In Python: `load` gives trained networks, `fit` trains them on your own arrays,
`metrics` and `compare` give numbers with intervals; see docs/howto/python.md.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from cmbjax.detect.classifier import load
  from cmbjax.evaluation.arrays import compare, metrics
  from cmbjax.study.fit import fit

__all__ = ['compare', 'fit', 'load', 'metrics']
__version__ = '0.1.0'

# Imported when they are asked for: JAX needs seconds, and `cmbjax --help` none.
_HOME = {
  'compare': 'cmbjax.evaluation.arrays',
  'fit': 'cmbjax.study.fit',
  'load': 'cmbjax.detect.classifier',
  'metrics': 'cmbjax.evaluation.arrays',
}


def __getattr__(name: str) -> Any:
  if name not in _HOME:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *_HOME})
