"""A head to maps of signal, decay and field on the fine grid.

Rule: everything is noise-free and in the grid frame, whose node (i, j, k)
of the fine grid is at (i, j, k) * fine_mm.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.simulate import (
  anatomy,
  families,
  grids,
  physics,
  skull,
  tubes,
  vessels,
)
from cmbjax.simulate.protocols import Protocol

_CHI = {'grey': 0.020, 'white': -0.030, 'csf': 0.019}  # ppm
_SLAB_MARGIN_MM = 8  # tissue above and below a slab that still makes field
# Middle of a slab in MNI mm: bodies of the ventricles and basal ganglia.
_SLAB_CENTRE_MNI_MM = 14.0


class Extent(NamedTuple):
  """The part of the field of view that is simulated."""

  start_mm: float  # of node 0 in the field of view, margin included
  fine_shape: tuple[int, int, int]
  shape: tuple[int, int, int]  # acquired, margin included
  margin: int  # acquired slices to drop at both ends
  depth_mm: float


class Maps(NamedTuple):
  """Noise-free tissue on the fine grid, [X, Y, Z] float32."""

  density: np.ndarray  # signal at TE 0
  r2s: np.ndarray  # 1/s
  field: np.ndarray  # ppm
  spread: np.ndarray  # ppm across one fine voxel along z, background only


class Tumour(NamedTuple):
  """A treated brain tumour, grid mm."""

  centre_mm: np.ndarray
  reach_mm: float  # where the dose falls under 30 Gy
  cavity_mm: np.ndarray | None  # semi-axes of the resection
  rim_mm: float
  rim_chi: float
  rim_cover: float
  bloody: bool


def get_extent(protocol: Protocol, slab_mm: float | None) -> Extent:
  thick = protocol.voxel_mm[2]
  if slab_mm is None or slab_mm >= protocol.field_of_view_mm[2]:
    start, count, margin = 0.0, protocol.shape[2], 0
  else:
    margin = int(np.ceil(_SLAB_MARGIN_MM / thick))
    count = max(4, round(slab_mm / thick)) + 2 * margin
    middle = protocol.field_of_view_mm[2] / 2
    middle += _SLAB_CENTRE_MNI_MM - float(anatomy.CENTRE_MNI_MM[2])
    start = round(middle / thick - count / 2) * thick
  fine = protocol.fine_shape
  ratio = round(thick / protocol.fine_mm[2])
  return Extent(
    start, (*fine[:2], count * ratio), (*protocol.shape[:2], count), margin,
    count * thick,
  )  # fmt: skip


def _refine(image, protocol, extent, *, offset=(0.0, 0.0, 0.0)):
  return grids.refine(
    image, extent.fine_shape, step=protocol.fine_mm, offset=offset
  )


def draw_maps(streams, head, *, protocol, extent, tumour, workers):
  """Tissue, vessels and field of one head; returns (`Maps`, `Vessels`).

  Args:
    streams: random generators by name.
    head: one person.
    protocol: how they are scanned.
    extent: the part of the field of view that is simulated.
    tumour: None: no tumour.
    workers: threads of the Fourier transforms.
  """
  rng = streams('tissue')
  inside = _refine(head.mask.astype(np.float32), protocol, extent) > 0.5
  if head.details is None:
    shares = _sharp_shares(rng, head, protocol, extent, inside)
  else:
    shares = _own_shares(streams('spaces'), head, protocol, extent, inside)
  rim = np.zeros(len(shares[0]), np.float32)
  if tumour is not None and tumour.cavity_mm is not None:
    rim = _resect(
      streams('cavity'), shares, inside=inside, tumour=tumour,
      protocol=protocol, extent=extent,
    )  # fmt: skip
  density, r2s, chi = _relax(
    rng, shares, head=head, protocol=protocol, extent=extent, inside=inside
  )
  chi += rim
  r2s += np.float32(physics.R2_PRIME * protocol.field_t) * rim
  plan = skull.draw_plan(streams('skull'), head)
  around = skull.draw_surroundings(plan, head, protocol)
  density, r2s, shift = (
    _surround(image, values, inside, protocol, extent)
    for image, values in zip(around, (density, r2s, 0))
  )
  np.maximum(density, 0, out=density)
  np.maximum(r2s, 0, out=r2s)
  vessels_drawn, veins, flow = _draw_vessels(streams, head, protocol, extent)
  _blend_vessels(density, r2s, veins, flow, protocol, head.details)
  del flow
  # 4 pi 0.27 Hct (1 - Y): oxygenation differs between people.
  veins *= np.float32(4 * np.pi * 0.27 * 0.40 * rng.uniform(0.29, 0.40))
  veins[inside] += chi
  field = physics.field_ppm(veins, protocol.fine_mm, head.b0, workers=workers)
  del veins
  background, spread = _background(plan, head, protocol, extent, workers)
  field += background
  field += shift
  maps = Maps(density, r2s, field, spread)
  return maps, vessels_drawn._replace(rim=_coarse_rim(rim, inside, protocol))


def _surround(image, values, inside, protocol, extent):
  """An image of the surroundings on the fine grid with the brain put in."""
  fine = _refine(image, protocol, extent)
  fine[inside] = values
  return fine


def _coarse_rim(rim, inside, protocol):
  """Voxels of the acquired grid on the haemosiderin of a cavity."""
  if not rim.any():
    return None
  fine = np.zeros(inside.shape, bool)
  fine[inside] = rim > 0.15
  step = np.rint(np.array(protocol.voxel_mm) / protocol.fine_mm).astype(int)
  return fine[:: step[0], :: step[1], :: step[2]]


def _relax(rng, shares, *, head, protocol, extent, inside):
  """Signal at TE 0, R2* and susceptibility of brain voxels, [N] each."""
  iron = _refine(head.iron_ppm, protocol, extent)[inside]
  texture = _texture(rng, head, protocol, extent)[inside]
  density, r2s, chi = 0.0, 0.0, iron.copy()
  for name, share in zip(('grey', 'white', 'csf'), shares):
    tissue = protocol.tissue(name)
    tissue = tissue._replace(
      t1_s=tissue.t1_s * rng.uniform(0.93, 1.07),
      r2s=tissue.r2s * rng.uniform(0.9, 1.1),
    )
    size = _steady(tissue, protocol)
    if name == 'csf' and head.details is not None:
      size *= head.details.fluid
    density = density + share * np.float32(size)
    r2s = r2s + share * np.float32(tissue.r2s)
    factor = rng.uniform(0.8, 1.2) * protocol.chi_factor
    chi += share * np.float32(_CHI[name] * factor)
  density *= 1 + np.float32(0.02) * texture
  r2s *= 1 + np.float32(0.05) * texture
  # 137 /s per ppm at 3 T, linear in the field (Shin et al., 2021).
  size = iron if head.details is None else abs(iron)
  r2s += np.float32(45.7 * protocol.field_t) * size
  if head.details is not None:
    void = _refine(head.details.void, protocol, extent)[inside]
    density *= 1 - np.clip(void, 0, 1)
  return density, r2s, chi


def _steady(tissue, protocol) -> float:
  return physics.spoiled_echo(
    tissue,
    repetition_time_s=protocol.repetition_time_s,
    flip_deg=protocol.flip_deg,
  )


class Vessels(NamedTuple):
  """What the truth of the mimics needs; tubes in grid mm."""

  veins: tubes.Tubes
  arteries: tubes.Tubes
  rim: np.ndarray | None  # bool [X, Y, Z], acquired grid


def _draw_vessels(streams, head, protocol, extent):
  """Tubes, and the shares of veins and arteries on the fine grid."""
  draw_veins = families.find('veins', protocol.families.veins)
  veins = draw_veins(streams('veins'), head)
  if head.details is not None:
    arteries = head.details.arteries
  else:
    arteries = tubes.carry(vessels.draw_arteries(streams('arteries')), head)
  shares = (
    tubes.deposit(streams(name), t, extent.fine_shape, protocol.fine_mm)
    for name, t in (('veins fill', veins), ('flow', arteries))
  )
  return Vessels(veins, arteries, None), *shares


def _sharp_shares(rng, head, protocol, extent, inside):
  """Grey, white, CSF shares [3][N] of brain voxels, as crisp as one person.

  The templates are means over people; noise in the shares moves sulci and a
  power makes the edges sharp again.
  """
  shape = head.grey.shape
  noise = [_smooth_noise(rng, shape, sigma) for sigma in (1.3, 2.6)]
  wobble = 0.10 * noise[0] + 0.10 * noise[1]
  shares = []
  # Sulci are narrower than the mean over people shows: CSF weighs more.
  for image, sign, weight in (
    (head.grey, 0.0, 1.0), (head.white, 1.0, 1.0), (head.csf, 0.8, 1.35)
  ):  # fmt: skip
    image = weight * (image + np.where(image > 0.05, sign * wobble, 0))
    fine = _refine(image.astype(np.float32), protocol, extent)[inside]
    shares.append(np.clip(fine, 0.003, 1) ** 2.5)
  total = shares[0] + shares[1] + shares[2]
  for share in shares:
    share /= total
  return shares


def _own_shares(rng, head, protocol, extent, inside):
  """Grey, white, CSF shares [3][N] of a head that was drawn sharp."""
  grey, fluid = (
    np.clip(_refine(image, protocol, extent)[inside], 0, 1)
    for image in (head.grey, head.csf)
  )
  spaces = tubes.deposit(
    rng, head.details.spaces, extent.fine_shape, protocol.fine_mm
  )[inside]
  fluid += spaces * (1 - fluid)
  grey = np.minimum(grey, 1 - fluid)
  return [grey, 1 - fluid - grey, fluid]


def _smooth_noise(rng, shape, sigma_mm) -> np.ndarray:
  """Unit variance noise [X, Y, Z] of a given width on the 1 mm grid."""
  half = tuple((n + 1) // 2 + 1 for n in shape)
  noise = ndimage.gaussian_filter(
    rng.standard_normal(half, np.float32), sigma_mm / 2, mode='wrap'
  )
  noise /= noise.std()
  return grids.refine(noise, shape, step=(0.5, 0.5, 0.5))


def _texture(rng, head, protocol, extent) -> np.ndarray:
  noise = _smooth_noise(rng, head.grey.shape, 2.0)
  noise += _smooth_noise(rng, head.grey.shape, 6.0)
  return _refine(noise * np.float32(0.7), protocol, extent)


_INFLOW, _FLOW_R2S = 0.8, 220.0  # of arteries in the head of the templates


def _blend_vessels(density, r2s, veins, flow, protocol, details) -> None:
  """Mixes blood into tissue; fast arterial flow loses its signal."""
  vein = protocol.tissue('vein')
  where = np.flatnonzero(veins)
  share = veins.flat[where]
  flat, rate = density.reshape(-1), r2s.reshape(-1)
  flat[where] += share * (np.float32(_steady(vein, protocol)) - flat[where])
  rate[where] += share * (np.float32(vein.r2s) - rate[where])
  # Inflow brightens the first echo, dephasing takes the later ones.
  where = np.flatnonzero(flow)
  share = flow.flat[where]
  inflow, flow_r2s = _INFLOW, _FLOW_R2S
  if details is not None:
    inflow, flow_r2s = details.inflow, details.flow_r2s
  flat[where] *= 1 + share * np.float32(inflow)
  rate[where] += share * (np.float32(flow_r2s) - rate[where])


def _resect(rng, shares, *, inside, tumour, protocol, extent) -> np.ndarray:
  """Turns an ellipsoid into CSF; returns the susceptibility of its rim [N]."""
  rim = np.zeros(len(shares[0]), np.float32)
  fine = np.array(protocol.fine_mm)
  centre, axes = tumour.centre_mm, tumour.cavity_mm
  reach = 1.6 * axes + 3 * tumour.rim_mm
  low = np.maximum(np.floor((centre - reach) / fine), 0).astype(int)
  high = np.minimum(np.ceil((centre + reach) / fine), extent.fine_shape)
  size = high.astype(int) - low
  if (size < 1).any():
    return rim
  box = tuple(slice(a, a + n) for a, n in zip(low, size))
  chosen = inside[box]
  # Where the voxels of the box are among those of the brain.
  number = np.cumsum(inside.reshape(-1), dtype=np.int32).reshape(inside.shape)
  number = number[box][chosen] - 1
  x, y, z = grids.grid_mm((0, 0, 0), size)
  radius = np.sqrt(sum(
    (((a + i) * f - c) / r) ** 2
    for i, a, f, c, r in zip((x, y, z), low, fine, centre, axes)
  ))[chosen].astype(np.float32)  # fmt: skip
  wide = np.ceil(size * fine).astype(int) + 2
  bumps = grids.refine(_smooth_noise(rng, wide, 4.0), size, step=fine)
  bumps = bumps[chosen]
  depth = (1 + 0.12 * bumps - radius) * axes.mean()  # mm inside the wall
  hole = np.clip(depth / 0.5 + 0.5, 0, 1)
  for share, wanted in zip(shares, (0, 0, 1)):
    share[number] += hole * (wanted - share[number])
  wall = np.clip(1 - abs(depth + tumour.rim_mm / 2) / tumour.rim_mm, 0, 1)
  if (wall > 0).any():
    level = np.quantile(bumps[wall > 0], 1 - tumour.rim_cover)
    patchy = np.clip((bumps - level) / 0.4, 0, 1)
    rim[number] = wall * patchy * tumour.rim_chi
  return rim


def _background(plan, head, protocol, extent, workers):
  """Field of air and bone after the shim, and its change across a voxel."""
  step, pad = skull.STEP_MM, skull.PAD
  # A sharp edge of 9 ppm rings at the pitch of this coarse grid.
  chi = ndimage.gaussian_filter(skull.susceptibility(plan), 0.9, mode='nearest')
  field = physics.field_ppm(chi, (step,) * 3, head.b0, workers=workers)
  axes = grids.grid_mm([-1.0] * 3, chi.shape, step=2 / chi.shape[0])
  field = physics.shim(field, plan.brain, axes)
  fine = np.array(protocol.fine_mm) / step
  offset = (pad, pad, pad + extent.start_mm / step)
  field = grids.refine(field, extent.fine_shape, step=fine, offset=offset)
  return field, np.gradient(field, axis=2)
