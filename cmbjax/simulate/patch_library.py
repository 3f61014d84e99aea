"""The templates and drawn vessels to arrays that local boxes are cut from.

Rule: it is the same for every seed; what differs between patches is drawn
later, on the device.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.simulate import anatomy, lesions, vessels

KINDS = (
  'microbleed',
  'vein: through-plane',
  'vein: bend or junction',
  'vein: oblique',
  'calcification',
  'flow void',
  'iron nucleus',
  'tissue',
)
MARGIN = 30  # nodes of 1 mm round the templates
IRON_TOP_PPM = 0.25  # stored as 255
_NETWORKS = 12
_NUM_SITES = 20_000  # for each kind, at most
_THROUGH_PLANE = np.cos(np.deg2rad(30))
_BEND = np.cos(np.deg2rad(35))


class Library(NamedTuple):
  """Places in MNI mm."""

  tissue: np.ndarray  # [X, Y, Z, 4] uint8: grey, white, brain, iron
  origin_mm: np.ndarray  # [3] of node 0 of `tissue`
  steps: np.ndarray  # [networks, L, 8]: place, heading, radius, 1 if artery
  sites_mm: np.ndarray  # [S, 3], one kind after the other
  network: np.ndarray  # [S] int32, the vessels that belong to a site
  first: np.ndarray  # [len(KINDS)] int32, where a kind begins in the sites
  count: np.ndarray  # [len(KINDS)] int32


@functools.lru_cache(maxsize=1)
def load() -> Library:
  """Builds the library: a few seconds, about 80 MB."""
  atlas = anatomy.load_atlas()
  rng = np.random.default_rng(0)
  tubes = [
    (vessels.draw_veins(rng, atlas), vessels.draw_arteries(rng))
    for _ in range(_NETWORKS)
  ]
  steps = [
    np.concatenate([_steps(v, flow=0.0), _steps(a, flow=1.0)]) for v, a in tubes
  ]
  longest = max(map(len, steps)) + 1  # the last row is always empty
  steps = np.stack([np.pad(s, ((0, longest - len(s)), (0, 0))) for s in steps])
  parts = [_sites(rng, kind, atlas, tubes) for kind in KINDS]
  count = np.array([len(p[0]) for p in parts], np.int32)
  return Library(
    tissue=_tissue(atlas),
    origin_mm=atlas.origin_mm - MARGIN,
    steps=steps.astype(np.float32),
    sites_mm=np.concatenate([p[0] for p in parts]).astype(np.float32),
    network=np.concatenate([p[1] for p in parts]).astype(np.int32),
    first=np.cumsum(count, dtype=np.int32) - count,
    count=count,
  )


def _tissue(atlas) -> np.ndarray:
  iron = np.zeros(atlas.mask.shape, np.float32)
  for nucleus, soft in zip(anatomy.NUCLEI, atlas.nuclei):
    # As in `anatomy`: what is no darker than grey matter counts half.
    level = nucleus.chi_ppm / (1.0 if nucleus.chi_ppm > 0.03 else 2.0)
    part = iron[anatomy.NUCLEI_BOX]
    np.maximum(part, soft * np.float32(level / 255), out=part)
  iron *= np.clip(2 * (atlas.grey + atlas.white) - 0.6, 0, 1)
  parts = (atlas.grey, atlas.white, atlas.mask, iron / IRON_TOP_PPM)
  whole = np.stack([np.rint(255 * np.clip(p, 0, 1)) for p in parts], -1)
  return np.pad(whole.astype(np.uint8), (*[(MARGIN, MARGIN)] * 3, (0, 0)))


def _steps(tubes: vessels.Tubes, *, flow) -> np.ndarray:
  """[L, 8] rows of all steps; a tube's last one has no length."""
  heading = np.diff(tubes.points_mm, axis=1, append=np.nan)
  norm = np.sqrt((heading**2).sum(-1))
  alive = np.isfinite(norm) & np.isfinite(tubes.radius_mm)
  heading = heading[alive] / np.maximum(norm[alive], 1e-6)[:, None]
  radius = tubes.radius_mm[alive][:, None]
  rows = [tubes.points_mm[alive], heading, radius, np.full_like(radius, flow)]
  return np.concatenate(rows, 1)


def _sites(rng, kind, atlas, tubes):
  """Places [S, 3] and networks [S] of one kind."""
  if kind == 'microbleed':
    places = _microbleed_sites(rng, atlas)
  elif kind.startswith('vein') or kind == 'flow void':
    return _vessel_sites(rng, kind, atlas, tubes)
  else:
    places = _in_voxels(rng, atlas, *_pool(kind, atlas))
  return places, rng.integers(0, _NETWORKS, len(places))


def _pool(kind, atlas):
  """Voxels [n, 3] where a kind is looked for, and how many sites."""
  if kind == 'iron nucleus':
    chi = np.array([n.chi_ppm for n in anatomy.NUCLEI])
    soft = atlas.nuclei[chi > 0.03].max(0)
    edge = np.argwhere((soft > 25) & (soft < 230))
    return edge + [b.start for b in anatomy.NUCLEI_BOX], _NUM_SITES
  solid = atlas.grey + atlas.white > (0.7 if kind == 'calcification' else 0.2)
  deep = ndimage.binary_erosion(atlas.mask > 0, iterations=3)
  return np.argwhere(solid & deep), _NUM_SITES


def _in_voxels(rng, atlas, index, count):
  """Random places [count, 3] in voxels `index` [n, 3]."""
  chosen = index[rng.integers(len(index), size=count)]
  return atlas.origin_mm + chosen + rng.uniform(-0.5, 0.5, chosen.shape)


def _microbleed_sites(rng, atlas):
  """By the real shares of regions, 3 mm from the rim and not in fluid."""
  deep = ndimage.distance_transform_edt(atlas.mask) > 3
  deep &= atlas.mask - atlas.grey - atlas.white < 0.25
  parts = []
  for name, share in lesions.REGION_SHARES.items():
    index = np.argwhere(deep & (atlas.region == anatomy.REGIONS.index(name)))
    parts.append(_in_voxels(rng, atlas, index, round(share * _NUM_SITES)))
  return np.concatenate(parts)


def _vessel_sites(rng, kind, atlas, tubes):
  places, network = [], []
  deep = ndimage.binary_erosion(atlas.mask > 0, iterations=2)
  for number, (veins, arteries) in enumerate(tubes):
    some = arteries if kind == 'flow void' else veins
    points = some.points_mm[np.isfinite(some.radius_mm)]
    which = _vein_kind(some) if some is veins else np.full(len(points), kind)
    index = np.rint(points - atlas.origin_mm).astype(int)
    index = np.clip(index, 0, np.array(deep.shape) - 1)
    points = points[(which == kind) & deep[tuple(index.T)]]
    places.append(points)
    network.append(np.full(len(points), number))
  places, network = np.concatenate(places), np.concatenate(network)
  chosen = rng.permutation(len(places))[:_NUM_SITES]
  return places[chosen], network[chosen]


def _vein_kind(veins: vessels.Tubes) -> np.ndarray:
  """One of `KINDS` for every step of every vein, in their order."""
  alive = np.isfinite(veins.radius_mm)
  points = veins.points_mm
  ahead = np.full(points.shape, np.nan, np.float32)
  ahead[:, :-3] = points[:, 3:] - points[:, :-3]
  ahead /= np.maximum(np.linalg.norm(ahead, axis=-1, keepdims=True), 1e-6)
  behind = np.full_like(ahead, np.nan)
  behind[:, 3:] = ahead[:, :-3]
  bent = (ahead * behind).sum(-1) < _BEND
  bent |= (veins.kind == 'junction')[:, None] & (np.arange(alive.shape[1]) < 3)
  along = np.where(np.isfinite(ahead), ahead, behind)[..., 2]
  steep = abs(along) > _THROUGH_PLANE
  names = np.where(steep, 'vein: through-plane', 'vein: oblique')
  return np.where(bent, 'vein: bend or junction', names)[alive]
