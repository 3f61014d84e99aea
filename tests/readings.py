"""Small reviews of made-up scans: journals as readers would leave them."""

import numpy as np

from cmbjax.imaging import volume
from cmbjax.review import composed, journal
from cmbjax.review.geometry import View
from cmbjax.review.record import Candidate, new_header

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
    **how,
  ) | {'time': TIME}


def action(event, item=None, *, ms=1000, second=1, **more):
  time = f'2026-03-01T10:00:{second:02d}.000+00:00'
  number = {} if item is None else {'item': item}
  return {'event': event, 'ms': ms, 'time': time} | number | more


def verdict(item, value, **more):
  return action('verdict', item, value=value, **more)


def added(ijk, *, voxels=None, **more):
  voxels = cube(ijk) if voxels is None else voxels
  drawn = {'set': voxels, 'clear': [], 'tool': {'name': 'brush', 'mm': 2}}
  return action('add', ijk=list(ijk), **drawn, **more)


def done():
  return action('status', value='completed', ms=0, second=59)


def read(root, rater, said, *, case='sub-01', extra=(), finish=True, **how):
  """A journal: `said` are verdicts of item 1, 2, ...; None stays unread."""
  actions = [verdict(n, v) for n, v in enumerate(said, 1) if v is not None]
  actions += list(extra)
  if finish:
    actions.append(done())
  folder = journal.folder_of(root, rater, case)
  return composed.write(folder, header(rater, case, **how), actions)
