"""What is round the brain: skull, scalp, muscles, eyes, air, face, neck.

Rule: the shells follow the distance to this person's brain, the rest is
in MNI mm; signal and susceptibility come from the same shares of tissue.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.simulate import grids, physics

STEP_MM = 2.0  # of the grid on which the surroundings are drawn
PAD = 24  # its nodes beyond the field of view on each side
_EDGE_MM = 1.0  # width of the transition between two tissues
_NEAR_MM = 3.0  # no air closer to the brain
_CHI_AIR, _CHI_BONE = 9.2, -2.1  # ppm, relative to soft tissue
FAT_SHIFT_PPM = -3.35  # of the fat's resonance
_READOUT_MM_PER_T = 0.5  # displacement of fat, usual bandwidth
# Air: MNI mm, largest semi-axis, number of cells.
_CAVITIES = (
  ((0, 18, -38), 8.0, 4),  # sphenoid
  ((0, 42, -38), 4.0, 5),  # ethmoid
  ((0, 76, -8), 8.0, 4),  # frontal
  ((52, -32, -48), 10.0, 7),  # mastoid
  ((-52, -32, -48), 10.0, 7),
  ((27, 48, -68), 13.0, 3),  # maxillary
  ((-27, 48, -68), 13.0, 3),
  ((6, 55, -62), 8.0, 4),  # nose
  ((-6, 55, -62), 8.0, 4),
  ((0, 6, -84), 9.0, 3),  # pharynx
)
# Bone of the base and face: centre of the right side, semi-axes, marrow.
_BONES = (
  ((40, -24, -43), (22, 8, 8), 0.0),  # petrous
  ((0, -6, -44), (11, 7, 17), 0.55),  # clivus
  ((22, 14, -32), (20, 7, 6), 0.3),  # greater wing of the sphenoid
  ((58, 34, -52), (5, 20, 5), 0.3),  # zygomatic arch
  ((52, -4, -70), (4, 10, 22), 0.4),  # ramus of the mandible
)
_FRONT = 0.022  # thicker skull in front and behind, mm per mm
_EYE = (32.0, 60.0, -37.0)
_EYE_MM = 12.0
_APEX = (13.0, 22.0, -26.0)  # of the orbit
# T1, T2* and density of what is not brain: usual values, estimated at 7 T.
_TISSUES = {
  'fat': {7.0: (0.9, 0.45, 75.0), 3.0: (0.9, 0.37, 36.0)},
  'muscle': {7.0: (0.75, 1.9, 62.0), 3.0: (0.75, 1.41, 32.0)},
  'skin': {7.0: (0.6, 1.1, 110.0), 3.0: (0.6, 0.9, 60.0)},
  'marrow': {7.0: (0.5, 0.45, 170.0), 3.0: (0.5, 0.37, 80.0)},
  'fluid': {7.0: (1.0, 4.0, 4.0), 3.0: (1.0, 4.0, 3.0)},
}


def tissue_of(name: str, field_t: float) -> physics.Tissue:
  """Relaxation at a field; linear in the field between and below 3 and 7 T."""
  (p, t7, r7), (_, t3, r3) = (_TISSUES[name][f] for f in (7.0, 3.0))
  share = (field_t - 3.0) / 4.0
  return physics.Tissue(p, t3 + share * (t7 - t3), r3 + share * (r7 - r3))


class Surroundings(NamedTuple):
  """Signal of all that is not brain, on the head's 1 mm grid [X, Y, Z]."""

  density: np.ndarray
  r2s: np.ndarray
  shift_ppm: np.ndarray  # chemical shift


class SkullPlan(NamedTuple):
  """What one person's surroundings are drawn from.

  Images are [X, Y, Z] on the 2 mm grid; node 0 is at `-PAD * STEP_MM`.
  """

  mni: np.ndarray  # [3, X, Y, Z]
  brain: np.ndarray  # bool
  depth: np.ndarray  # mm from the brain
  smooth: np.ndarray  # the same, without the small bumps
  noise: tuple[np.ndarray, ...]
  cells: tuple  # air: (centre, semi-axes), MNI mm
  thick: dict  # mean thicknesses, mm


def draw_plan(rng, head) -> SkullPlan:
  """Thicknesses, air cells and distances of one person."""
  shape = tuple(round(n / STEP_MM) + 2 * PAD for n in head.frame.full_mm)
  mni = head.frame.coordinates(
    shape, origin=(-PAD * STEP_MM,) * 3, step=STEP_MM
  )
  brain = head.frame.brain(mni) > 0.5
  far = ndimage.distance_transform_edt(~brain).astype(np.float32) * STEP_MM
  # The edge of a binary image is half a step outside of its nodes.
  depth = ndimage.gaussian_filter(far, 0.8) - np.float32(0.7)
  smooth = ndimage.gaussian_filter(np.minimum(far[::2, ::2, ::2], 40), 2.0)
  smooth = grids.refine(smooth, shape, step=(0.5,) * 3)
  noise = tuple(
    grids.smooth_noise(rng, shape, sigma / STEP_MM)
    for sigma in (14.0, 14.0, 4.5)
  )
  thick = {
    'fluid': rng.uniform(0.4, 1.6),
    'skull': rng.uniform(4.8, 7.0),
    'fat': rng.uniform(3.0, 6.0),
    'muscle': rng.uniform(7.0, 12.0),
  }
  cells = tuple(c for cavity in _CAVITIES for c in _air_cells(rng, *cavity))
  return SkullPlan(mni, brain, depth, smooth, noise, cells, thick)


def _air_cells(rng, centre, largest, count):
  """Ellipsoids round a centre; one alone would leave rings in the field."""
  radius = rng.uniform(0.45, 1.0) * largest
  for _ in range(count):
    middle = centre + rng.normal(0, 0.55 * radius, 3)
    axes = 2.6 / np.sqrt(count + 12) * radius * rng.uniform(0.6, 1.4, 3)
    yield middle.astype(np.float32), axes.astype(np.float32)


def _ramp(depth):
  """0 outside, 1 inside, linear across the edge."""
  return np.clip(depth / np.float32(_EDGE_MM) + np.float32(0.5), 0, 1)


def _ball(mni, centre, axes):
  """Depth in mm beneath the surface of an ellipsoid."""
  total = 0.0
  for m, c, a in zip(mni, centre, axes):
    total = total + ((m - np.float32(c)) / np.float32(a)) ** 2
  return (1 - np.sqrt(total)) * np.float32(min(axes))


def shares(mni, depth, smooth, noise, plan: SkullPlan):
  """Share of each tissue at points outside the brain.

  Args:
    mni: [3, N] MNI mm.
    depth, smooth: [N] mm from the brain.
    noise: three arrays [N] of unit variance.
    plan: of the person.

  Returns:
    indices [M] of the points that are in the head, and name to [M]: fluid,
    bone, marrow, fat, muscle, skin, air.
  """
  skin_depth, *layers = _layers(mni, depth, smooth, noise, plan)
  live = np.flatnonzero(skin_depth > -_EDGE_MM)
  mni, depth, skin_depth = mni[:, live], depth[live], skin_depth[live]
  fluid, skull, fat, muscle = (v[live] for v in layers)
  rough = noise[2][live]
  inner = fluid + skull
  out = {'air': np.zeros_like(depth), 'bone': np.zeros_like(depth)}
  out['muscle'] = np.ones_like(depth)
  # Fat between the muscles of face and neck, and all over the skull.
  _put(out, 'fat', np.clip(3 * (rough - 0.9), 0, 0.8))
  bare = (muscle <= 2) & (depth < 25)
  _put(out, 'fat', np.where(bare, 1, _ramp(fat - skin_depth)))
  _put(out, 'skin', _ramp(1.6 - skin_depth))
  low = np.flatnonzero(mni[2] < 0)
  part = {name: values[low] for name, values in out.items()}
  _put_face(part, (abs(mni[0, low]), mni[1, low], mni[2, low]))
  for name, values in part.items():
    out.setdefault(name, np.zeros_like(depth))[low] = values
  _put(out, 'bone', _ramp(inner - depth))
  core = np.clip(0.24 * skull - 0.6, 0, 3) - abs(depth - fluid - 0.5 * skull)
  _put(out, 'marrow', 0.7 * _ramp(core) * (skull > 4))
  _put(out, 'fluid', _ramp(fluid - depth))
  hollow = 1 - _ramp(skin_depth)
  for centre, axes in plan.cells:
    near = _within(mni, centre, axes)
    cell = _ramp(_ball(mni[:, near], centre, axes))
    cell *= _ramp(depth[near] - _NEAR_MM)
    hollow[near] = np.maximum(hollow[near], cell)
  _put(out, 'air', hollow)
  return live, out


def _layers(mni, depth, smooth, noise, plan):
  """Depth under the skin; fluid, skull, fat and temporal muscle in mm."""
  x, y, z = abs(mni[0]), mni[1], mni[2]
  fluid, skull, fat, muscle = _thickness(x, y, z, noise, plan)
  # Smooth from outside: where the skull is thick, the fat is thin.
  reach = sum(plan.thick[n] for n in ('fluid', 'skull', 'fat')) + muscle
  reach = reach + np.float32(0.4) * noise[1]
  reach += np.float32(1.5) + np.float32(_FRONT) * abs(y + 15)
  skin_depth = np.maximum(reach - smooth, fluid + skull + muscle + 2.2 - depth)
  low = np.flatnonzero(z < 10)
  face = _face_depth(x[low], y[low], z[low])
  skin_depth[low] = np.maximum(skin_depth[low], face)
  return skin_depth, fluid, skull, fat, muscle


def _within(mni, centre, axes):
  """Indices of the points in the box round an ellipsoid."""
  near = abs(mni[2] - centre[2]) < axes[2] + 1
  near &= abs(mni[1] - centre[1]) < axes[1] + 1
  near &= abs(mni[0] - centre[0]) < axes[0] + 1
  return np.flatnonzero(near)


def _put(out, name, share) -> None:
  """Lays a tissue over what is there."""
  left = 1 - share
  for values in out.values():
    values *= left
  out[name] = out.get(name, 0) + share


def _thickness(x, y, z, noise, plan):
  """Fluid, skull, fat and temporal muscle in mm at each point."""
  mean = plan.thick
  fluid = mean['fluid'] + np.float32(0.6) * noise[2]
  fluid = np.clip(fluid, 0.2, 3.0)
  # Room for the sagittal sinus, and for the cord below.
  midline = np.exp(-((x / 5) ** 2)) * ((z > 0) | (y < -70))
  fluid = fluid + 3.0 * midline
  cord = np.exp(-((x / 15) ** 2) - ((y + 38) / 15) ** 2)
  cord = cord * np.clip((-52 - z) / 8, 0, 1)
  fluid = fluid + 4.0 * cord
  skull = mean['skull'] + 0.9 * noise[0] + _FRONT * abs(y + 15)
  squama = np.exp(-(((y - 5) / 35) ** 2) - ((z + 12) / 24) ** 2)
  squama = squama * np.clip((x - 40) / 15, 0, 1)
  skull = np.clip(skull - 2.5 * squama, 3.0, 11.0) * (1 - cord)
  fat = np.clip(mean['fat'] + 0.9 * noise[1] + 2 * (z < -40), 2.0, 9.0)
  lobe = np.exp(-(((y - 12) / 30) ** 2) - ((z + 15) / 27) ** 2)
  muscle = mean['muscle'] * lobe * np.clip((x - 38) / 12, 0, 1)
  return [v.astype(np.float32) for v in (fluid, skull, fat, muscle)]


def _face_depth(x, y, z):
  """Depth under the skin of face and neck, which go on below the brain."""
  x, y, z = (v.astype(np.float32) for v in (x, y, z))
  level = (-140, -100, -70, -50, -30, -5)
  wide = _profile(z, level, (56, 58, 63, 68, 71, 72))
  front = _profile(z, level, (78, 82, 84, 83, 81, 78))
  back = _profile(z, level, (-80, -82, -92, -101, -106, -106))
  along = abs(y - (front + back) / 2) / ((front - back) / 2)
  across, along = np.minimum(x / wide, 3.0), np.minimum(along, 3.0)
  radius = across * across * np.sqrt(across) + along * along * np.sqrt(along)
  radius = radius ** np.float32(0.4)
  depth = (1 - radius) * wide - 0.9 * np.maximum(z + 12, 0)
  nose = _ball((x, y, z), (0, 80, -50), (14, 22, 22))
  return np.maximum(depth, nose).astype(np.float32)


def _profile(z, level, values):
  return np.interp(z, level, values).astype(np.float32)


def _put_face(out, mni) -> None:
  """Bones of the base, and the orbits."""
  mni = np.stack(mni)
  for centre, axes, marrow in _BONES:
    near = _within(mni, centre, axes)
    bone = _ramp(_ball(mni[:, near], centre, axes))
    _put_at(out, near, 'bone', bone)
    _put_at(out, near, 'marrow', marrow * bone)
  near = _within(mni, (27, 45, -34), (22, 35, 19))
  part = {name: values[near] for name, values in out.items()}
  _put_orbit(part, mni[:, near])
  for name, values in part.items():
    out.setdefault(name, np.zeros(mni.shape[1], np.float32))[near] = values


def _put_at(out, where, name, share) -> None:
  for values in out.values():
    values[where] *= 1 - share
  out.setdefault(name, np.zeros_like(out['air']))[where] += share


def _put_orbit(out, mni) -> None:
  """Fat cone with nerve and straight muscles, and the globe in front."""
  eye, apex = (np.array(p, np.float32) for p in (_EYE, _APEX))
  line = eye - apex
  offset = [m - a for m, a in zip(mni, apex)]
  along = sum(o * c for o, c in zip(offset, line)) / (line @ line)
  far = np.sqrt(sum((o - along * c) ** 2 for o, c in zip(offset, line)))
  inside = np.minimum(40 * along, 40 * (1.35 - along))
  cone = np.minimum(2.0 + 14.0 * along - far, inside)
  _put(out, 'bone', _ramp(np.minimum(cone + 2.0, inside)))
  _put(out, 'fat', _ramp(cone))
  # Straight muscles line the cone, the nerve is its axis.
  _put(out, 'muscle', 0.8 * _ramp(1.3 - abs(cone - 2.8)) * (inside > 0))
  _put(out, 'muscle', _ramp(np.minimum(2.2 - far, 40 * along)))
  globe = _ball(mni, eye, (_EYE_MM,) * 3)
  _put(out, 'skin', _ramp(globe))
  _put(out, 'fluid', _ramp(globe - 1.2))
  lens = _ball(mni, eye + np.float32([0, 8.5, 0]), (4.6, 2.2, 4.6))
  _put(out, 'skin', _ramp(lens))


def susceptibility(plan: SkullPlan) -> np.ndarray:
  """Air and bone, ppm [X, Y, Z] on the grid of the plan."""
  chi = np.zeros(plan.brain.shape, np.float32)
  outside = np.flatnonzero(~plan.brain)

  def take(image):
    return image.reshape(-1)[outside]

  live, found = shares(
    plan.mni.reshape(3, -1)[:, outside], take(plan.depth), take(plan.smooth),
    tuple(take(n) for n in plan.noise), plan,
  )  # fmt: skip
  values = np.full(len(outside), _CHI_AIR, np.float32)
  values[live] = _CHI_AIR * found['air'] + _CHI_BONE * found['bone']
  chi.reshape(-1)[outside] = values
  return chi


def draw_surroundings(plan: SkullPlan, head, protocol) -> Surroundings:
  """Signal at TE 0, R2* and chemical shift outside the brain.

  Args:
    plan: of the person.
    head: the same person's.
    protocol: how they are scanned.
  """
  start = head.frame.start_mm
  offset = [(PAD * STEP_MM + s) / STEP_MM for s in (0, 0, start)]
  shape = head.mask.shape

  def fit(image):
    return grids.refine(
      image, shape, step=(1 / STEP_MM,) * 3, offset=offset
    ).reshape(-1)

  smooth = fit(plan.smooth)
  # Far from the brain and above the face there is nothing.
  chosen = np.flatnonzero(
    ~head.mask.reshape(-1) & ((smooth < 32) | (head.mni[2].reshape(-1) < -10))
  )
  noise = [fit(n)[chosen] for n in plan.noise]
  live, found = shares(
    head.mni.reshape(3, -1)[:, chosen], fit(plan.depth)[chosen],
    smooth[chosen], noise, plan,
  )  # fmt: skip
  chosen, noise = chosen[live], [n[live] for n in noise]
  water, lipid, decay = 0.0, 0.0, 0.0
  for name in _TISSUES:
    tissue = tissue_of(name, protocol.field_t)
    size = found[name] * np.float32(
      physics.spoiled_echo(
        tissue,
        repetition_time_s=protocol.repetition_time_s,
        flip_deg=protocol.flip_deg,
      )
    )
    decay = decay + size * np.float32(tissue.r2s)
    if name in ('fat', 'marrow'):
      lipid = lipid + size
    else:
      water = water + size
  texture = 1 + np.float32(0.06) * noise[2] + np.float32(0.05) * noise[0]

  def spread(values):
    image = np.zeros(shape, np.float32)
    image.reshape(-1)[chosen] = values
    return image

  r2s = spread(decay / np.maximum(water + lipid, 1e-6))
  water, lipid = spread(water * texture), spread(lipid * texture)
  # The readout is along y: what resonates lower appears further back.
  moved = round(_READOUT_MM_PER_T * protocol.field_t)
  lipid = np.roll(lipid, -moved, 1)
  r2s = np.maximum(r2s, np.roll(r2s, -moved, 1))
  density = water + lipid
  shift = FAT_SHIFT_PPM * lipid / np.maximum(density, 1e-6)
  return Surroundings(density, r2s, shift)
