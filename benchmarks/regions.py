"""Where lesions lie: error, seconds and agreement on simulated heads.

  python benchmarks/regions.py                        # whole heads and slabs
  python benchmarks/regions.py --mars=mars.nii.gz     # beside an atlas too

Every head is registered with the mask that `brain_mask` finds, from its
magnitude and from its SWI. Truth is the simulator's own warp: the error is
that of points all over the brain, and a region is right when it is that of the
true MNI position on the drawn map (or on the MARS atlas given, an image of
squared labels 1 .. 13). `floor` is the error of the best affine map there is,
as the simulated heads are bent. Slabs are cut from the heads. `far` counts
lesions that are 3 mm or more from another region (or location).
"""

import argparse
import pathlib
import resource
import tempfile
import time

import numpy as np

from cmbjax.imaging import brain, regions, registration, swi, volume
from cmbjax.simulate import anatomy, protocols, scan, tissue

NAMES = ('btumor_7t', 'btumor_3t', 'ccm_3t')
CUTS = {'whole': (0, 1), 'low slab': (0, 0.4), 'middle slab': (0.35, 0.65),
        'high slab': (0.6, 1)}  # fmt: skip


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--seeds', default='9110,9111,9112,9113,9114')
  parser.add_argument('--protocols', default=','.join(NAMES))
  parser.add_argument('--cache', help='folder where simulated heads are kept')
  parser.add_argument('--mars', help='label image of the MARS atlas')
  args = parser.parse_args()
  cache = pathlib.Path(args.cache or tempfile.mkdtemp())
  cache.mkdir(parents=True, exist_ok=True)
  mars = read_mars(args.mars) if args.mars else None
  regions.drawn_atlas()
  rows = []
  for name in args.protocols.split(','):
    for seed in map(int, args.seeds.split(',')):
      head = get_head(cache, name, seed)
      for cut in CUTS:
        for kind in ('magnitude', 'swi'):
          rows.append((name, cut, kind, measure(head, cut, kind, mars)))
  show(rows)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
  print(f'peak memory {peak:.2f} GB, with the simulator')


def get_head(cache, name, seed) -> dict:
  """A simulated head with the MNI place of its lesions and of a grid."""
  path = cache / f'{name}_{seed}.npz'
  if not path.exists():
    np.savez_compressed(path, **simulate(name, seed))
  with np.load(path) as stored:
    return dict(stored)


def simulate(name, seed) -> dict:
  protocol = protocols.get_protocol(name)
  made = scan.make_scan(protocol, 1, seed=seed)
  streams = scan.Streams(seed, protocol.name, 1)
  extent = tissue.get_extent(protocol, None)
  head = anatomy.draw_head(
    streams('anatomy'), full_mm=protocol.field_of_view_mm,
    start_mm=extent.start_mm, depth_mm=extent.depth_mm,
  )  # fmt: skip
  step = np.maximum(np.rint(8 / np.array(protocol.voxel_mm)), 1).astype(int)
  thin = tuple(slice(s // 2, None, s) for s in step)
  grid = np.argwhere(made.brain[thin]) * step + step // 2
  lesions = np.array([row.centre_mm for row in made.lesion_rows])
  lesions = lesions.reshape(-1, 3).astype(np.float32)
  return {
    'magnitude': made.magnitude[-1].astype(np.float16),
    'swi': np.rint(255 * swi.scale_to_unit(made.swi, made.brain)).astype(
      np.uint8
    ),
    'affine': made.affine,
    'spacing': protocol.voxel_mm,
    'grid': grid,
    'grid_mni': head.to_mni((grid * protocol.voxel_mm).astype(np.float32)),
    'lesion': lesions / protocol.voxel_mm,
    'lesion_mni': head.to_mni(lesions),
    'lesion_region': np.array([row.region for row in made.lesion_rows], 'U20'),
  }


def _each(points_mm):
  """Points [N, 3] as lesions of one voxel."""
  return list(np.reshape(points_mm, (-1, 1, 3)))


def read_mars(path) -> regions.Atlas:
  """The MARS atlas as a region map: its values are squared labels."""
  image = volume.load(path)
  labels = np.rint(np.sqrt(np.maximum(image.array, 0))).astype(np.uint16)
  names = regions.REGIONS
  return regions._build(
    labels, image.affine, names, tuple(map(regions.location_of, names))
  )


def measure(head, cut, kind, mars) -> dict:
  """One registration of one part of a head."""
  image = head[kind].astype(np.float32)
  low, high = np.flatnonzero(image.any((0, 1)))[[0, -1]]
  first, last = (round(low + s * (high - low)) for s in CUTS[cut])
  affine = np.array(head['affine'])
  affine[:3, 3] += affine[:3, 2] * first
  image = image[:, :, first : last + 1]
  mask = brain.brain_mask(image, tuple(head['spacing']))
  start = time.process_time()
  found = registration.register(image, mask, affine)
  row = {'seconds': time.process_time() - start, 'overlap': found.overlap}

  def within(name):
    z = head[name][:, 2]
    keep = (z >= first) & (z <= last)
    world = head[name][keep] @ head['affine'][:3, :3].T + head['affine'][:3, 3]
    return world, head[f'{name}_mni'][keep], keep

  world, true, _ = within('grid')
  row['error'] = np.linalg.norm(found.to_mni(world) - true, axis=1)
  plus = np.column_stack([world, np.ones(len(world))])
  best = plus @ np.linalg.lstsq(plus, true, rcond=None)[0]
  row['floor'] = np.linalg.norm(best - true, axis=1)
  world, true, keep = within('lesion')
  same = np.eye(4)
  row['got'] = regions.region_of_lesions(_each(world), found.world_to_mni)
  row['true'] = regions.region_of_lesions(_each(true), same)
  row['drawn'] = head['lesion_region'][keep]
  row['mars'] = (
    regions.region_of_lesions(_each(true), same, atlas=mars) if mars else []
  )
  return row


def show(rows):
  print('simulated heads; error in mm')
  print(
    f'{"protocol":<12}{"part":<13}{"image":<11}{"n":>4}{"rms":>6}{"floor":>6}'
    f'{"p95":>6}{"worst":>6}{"cpu s":>6}{"overlap":>8}{"lesions":>8}'
    f'{"region":>7}{"far":>11}{"location":>9}{"far":>11}'
  )
  keys = dict.fromkeys(row[:3] for row in rows)
  for key in keys:
    line([r for *k, r in rows if tuple(k) == key], *key)
  for kind in ('magnitude', 'swi'):
    line([r for _, _, k, r in rows if k == kind], 'all', '', kind)
    whole = [r for _, cut, k, r in rows if k == kind and cut == 'whole']
    line(whole, 'all', 'whole', kind)
  whole = [r for _, cut, k, r in rows if k == 'magnitude' and cut == 'whole']
  against(whole)


def line(found, name, cut, kind):
  error = np.concatenate([r['error'] for r in found])
  floor = np.concatenate([r['floor'] for r in found])
  heads = [np.sqrt((r['error'] ** 2).mean()) for r in found]
  pairs = [p for r in found for p in zip(r['got'], r['true'])]
  region = [(a.region == b.region, a.margin_mm) for a, b in pairs]
  location = [(a.location == b.location, a.location_margin_mm)
              for a, b in pairs]  # fmt: skip
  print(
    f'{name:<12}{cut:<13}{kind:<11}{len(found):>4}'
    f'{np.sqrt((error**2).mean()):>6.2f}{np.sqrt((floor**2).mean()):>6.2f}'
    f'{np.percentile(error, 95):>6.2f}{max(heads):>6.2f}'
    f'{np.mean([r["seconds"] for r in found]):>6.2f}'
    f'{min(r["overlap"] for r in found):>8.3f}{len(pairs):>8}'
    f'{share(region, 0):>7}{share(region, 3):>11}'
    f'{share(location, 0):>9}{share(location, 3):>11}'
  )


def share(pairs, least) -> str:
  kept = [right for right, margin in pairs if margin >= least]
  count = f'/{len(kept)}' if least else ''
  return f'{np.mean(kept):.3f}{count}' if kept else '-'


def against(found):
  """The found regions beside what the simulator and MARS say."""
  pairs = [p for r in found for p in zip(r['got'], r['drawn'])]
  named = ('cerebellum', 'brainstem', 'basal ganglia', 'thalamus')
  right = [
    (
      got.region == drawn
      if drawn in named
      else got.location == 'lobar' or (drawn == 'white matter'
      and got.location == 'deep'),
      got.location_margin_mm,
    )
    for got, drawn in pairs
  ]  # fmt: skip
  print(f'as the simulator drew it: {share(right, 0)}, far {share(right, 3)}')
  pairs = [p for r in found for p in zip(r['got'], r['mars'])]
  if pairs:
    region = [(a.region == b.region, a.margin_mm) for a, b in pairs]
    location = [(a.location == b.location, a.location_margin_mm)
                for a, b in pairs]  # fmt: skip
    print(
      f'as MARS at the true place: region {share(region, 0)}, far '
      f'{share(region, 3)}; location {share(location, 0)}, far '
      f'{share(location, 3)}'
    )


if __name__ == '__main__':
  main()
