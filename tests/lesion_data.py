"""Small scans and untrained networks for the tests of `cmbjax.detect`."""

import json

import nibabel as nib
import numpy as np

from cmbjax import sealed
from cmbjax.models import get_model
from cmbjax.reconstruct import channels
from cmbjax.training import checkpoint, replicas
from tests import small_cohorts

MODEL = 'resnet_v3'  # compiles fastest

POINTS = {
  'version': 1,
  'points': {
    'high_sensitivity': {'threshold': 0.0, 'rule': 'a test'},
    'balanced': {'threshold': 0.001, 'rule': 'a test'},
    'high_precision': {'threshold': 0.999, 'rule': 'a test'},
  },
  'calibration': {'kind': 'none'},
  'domain': {},
}


def write_weights(folder, *, networks=2, points=POINTS, first_seed=0, **record):
  """Untrained networks in the form of a study's weights; their stack."""
  network = get_model(MODEL)
  table = [
    replicas.Replica('untrained', fold, first_seed + fold, 1e-4)
    for fold in range(networks)
  ]
  count = channels.depth(record.get('channels', ('swi',)))
  weights = replicas.stack(
    [replicas.initial(network, row, count) for row in table]
  )
  known = {
    'strategy': 'untrained',
    'model': MODEL,
    'model_code': '',
    'optimizer': 'adamw',
    'patches': 'native',
    'channels': ['swi'],
    'candidates': 'frst',
    'candidates_code': '',
    'threshold': 0.1,
    'replicas': [row._asdict() for row in table],
    'start': '',
    'epochs': 1,
    'batch': 16,
    'subjects': [],
    'persons': [],
    'simulated': False,
    'environment': {'cmbjax': '0', 'git': 'none', 'time': '2026-01-01T00:00'},
    'fingerprint': f'untrained {networks} {first_seed}',
  }
  checkpoint.save_weights(folder, weights, known | record)
  if points is not None:
    points = {'fingerprint': (known | record)['fingerprint'], **points}
    sealed.write_json(folder / 'operating_points.json', points)
  return network, weights


def write_swi(path, *, seed=1, affine=None, **facts):
  """One phantom as an SWI with a sidecar; the phantom."""
  one = small_cohorts.phantom(seed)
  affine = one.affine if affine is None else affine
  small_cohorts.save(path, np.rint(one.swi).astype(np.uint8), affine)
  fields = {'EchoTime': 0.028, 'MagneticFieldStrength': 3} | facts
  stem = path.name.removesuffix('.gz').removesuffix('.nii')
  path.with_name(stem + '.json').write_text(json.dumps(fields))
  return one


def read_table(path):
  """Rows of a TSV as dicts of texts."""
  head, *lines = path.read_text().splitlines()
  return [dict(zip(head.split('\t'), line.split('\t'))) for line in lines]


def load(path):
  return np.asanyarray(nib.load(path).dataobj)
