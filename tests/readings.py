"""Small reviews of made-up scans: journals as readers would leave them."""

import dataclasses
import json

import numpy as np

from cmbjax.detect import chain, derivatives, records
from cmbjax.imaging import volume
from cmbjax.intake import bids
from cmbjax.review.cases import case as cases
from cmbjax.review.log import composed, folders
from cmbjax.review.log.geometry import View
from cmbjax.review.log.items import Candidate
from cmbjax.review.log.opening import Terms, new_header
from tests import small_cohorts

SHAPE = (24, 20, 12)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
VIEW = View.of(volume.from_array(np.zeros(SHAPE, np.uint8), AFFINE))
# Three candidates, far apart: centres in voxels.
CENTRES = ((4, 4, 3), (12, 10, 6), (19, 15, 9))
TIME = '2026-03-01T10:00:00.000+00:00'


def cube(ijk, reach=1):
  """Linear indices of a cube, flat along z."""
  x, y, z = ijk
  span = range(-reach, reach + 1)
  return VIEW.index_of(
    np.array([[x + a, y + b, z] for a in span for b in span])
  )


def candidates(centres=CENTRES, scores=(0.9, 0.6, 0.2)):
  return [
    Candidate(f'lesion-{n:03d}', n, ijk, cube(ijk), score, 'definite', 'lobar')
    for n, (ijk, score) in enumerate(zip(centres, scores), 1)
  ]


def header(rater, case='sub-01', some=None, **how):
  return new_header(
    candidates() if some is None else some,
    grid=VIEW.to_json(),
    rater=rater,
    case=case,
    source=f'{case}_swi.nii.gz',
    image_sha256='ab' * 32,
    labels_sha256='cd' * 32,
    simulated=True,
    terms=Terms(**how),
  ) | {'time': TIME}


def action(event, item=None, *, ms=1000, second=1, **more):
  time = f'2026-03-01T10:00:{second:02d}.000+00:00'
  number = {} if item is None else {'item': item}
  return {'event': event, 'ms': ms, 'time': time} | number | more


def verdict(item, value, **more):
  return action('verdict', item, value=value, **more)


def added(ijk, *, voxels=None, **more):
  voxels = cube(ijk) if voxels is None else voxels
  drawn = {'set': voxels, 'tool': {'name': 'brush', 'mm': 2}}
  return action('add', ijk=list(ijk), **drawn, **more)


def done():
  return action('status', value='completed', ms=0, second=59)


def read(root, rater, said, *, case='sub-01', extra=(), finish=True, **how):
  """A journal: `said` are verdicts of item 1, 2, ...; None stays unread."""
  actions = [verdict(n, v) for n, v in enumerate(said, 1) if v is not None]
  actions += list(extra)
  if finish:
    actions.append(done())
  folder = folders.folder_of(root, rater, case)
  return composed.write(folder, header(rater, case, **how), actions)


def detected(folder, *, subjects=2, rejected=1):
  """Results of `cmbjax detect` on phantoms, without networks; (out, phantoms).

  The last of the candidates of each scan count as rejected by networks.
  """
  scans, out = folder / 'scans', folder / 'results'
  made = small_cohorts.write_cohort(scans, subjects=subjects, simulated=True)
  for path in scans.glob('sub-*/anat/*_swi.json'):
    fields = json.loads(path.read_text()) | {'Simulated': True}
    path.write_text(json.dumps(fields))
  derivatives.write_dataset(out, scans)
  for scan in bids.find_scans(scans):
    found = chain.analyse(
      scan, None, chain.DetectOptions(regions=False), threads=1
    )
    found = found._replace(result=_rejecting(found.result, rejected))
    written = derivatives.write_scan(out, found)
    records.write_record(out, found.result, 'm', written, scan=scan)
  return out, made


def _rejecting(result, count):
  kept = len(result.found) - count
  labels = np.where(result.labels > kept, 0, result.labels)
  lesions = tuple(
    one
    if n < kept
    else dataclasses.replace(
      one, index=0, id=f'candidate-{one.candidate:04d}', status='rejected'
    )
    for n, one in enumerate(result.found)
  )
  return dataclasses.replace(result, lesions=lesions, labels=labels)


def read_case(root, rater, case, judge, *, extra=(), finish=True, **how):
  """A review of a real case; `judge` gives a verdict for a candidate."""
  loaded = cases.load(case)
  first = new_header(
    loaded.candidates,
    grid=View.of(loaded.image).to_json(),
    rater=rater,
    case=case.name,
    source=case.source,
    image_sha256=loaded.image_sha256,
    labels_sha256=loaded.labels_sha256,
    simulated=case.simulated,
    terms=Terms(**how),
  ) | {'time': TIME}
  by_id = {one.id: one for one in loaded.candidates}
  said = [(row['item'], judge(by_id[row['id']])) for row in first['items']]
  actions = [verdict(number, value) for number, value in said if value]
  actions += [*extra, *([done()] if finish else [])]
  return composed.write(root / rater / case.name, first, actions)
