"""Wrapped MR phase to the local phase that veins and microbleeds leave.

Rule: arrays have slices along z; every width is in mm; the filters keep the
sign that they are given.
"""

import concurrent.futures
from collections.abc import Callable

import numpy as np
import scipy.fft
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.imaging.swi_options import AS_IT_IS, HIGH_PASSES

HOMODYNE_SIGMA_MM = {1.5: 3.8, 3.0: 3.0, 7.0: 1.9}
"""Field strength in T to the width of the homodyne window in mm; these are
windows of 48, 60 and 96 at a field of view of 240 mm."""

BOUNDARIES = ('mirror', 'periodic')

# A Hann window of full width w cycles per field of view smooths an image as a
# Gaussian of sigma = 0.75 FOV / w does, so it ends at 0.375 / sigma per mm.
_HANN_EDGE = 0.375
_FIT_BLOCKS = 24  # along each axis of a slice
_FIT_ROUNDS = 3
_FIT_STEP = 4
_FIT_SCALE_RAD = 0.15  # a block's slope this far off counts a quarter
_THREADS = 2
_SLAB = 2  # slices in one piece of work: small enough for the cache


def default_sigma_mm(field_t: float | None) -> float:
  """The homodyne width for a field strength; 3 mm when it is not known."""
  if not field_t:
    return HOMODYNE_SIGMA_MM[3.0]
  nearest = min(HOMODYNE_SIGMA_MM, key=lambda f: abs(f - field_t))
  return HOMODYNE_SIGMA_MM[nearest]


def high_pass(
  magnitude: np.ndarray,
  phase: np.ndarray,
  spacing_mm: tuple[float, float, float],
  *,
  kind: str = 'homodyne',
  sigma_mm: float,
  mask: np.ndarray | None = None,
  boundary: str = 'mirror',
) -> np.ndarray:
  """Local phase, float32 [X, Y, Z] rad, by one of `HIGH_PASSES`.

  `AS_IT_IS` filters nothing: the phase is local already.

  Args:
    magnitude: [X, Y, Z], any unit.
    phase: [X, Y, Z] rad, wrapped or not.
    spacing_mm: voxel sizes.
    kind: 'homodyne'; 'laplacian' (unwrap, then masked Gaussian high-pass);
      'laplacianslice' (the same, every slice unwrapped alone); 'gaussian'
      (homodyne with a masked Gaussian, for skull-stripped fields of view).
    sigma_mm: width of the low-pass.
    mask: bool [X, Y, Z] for the masked kinds; None: everywhere.
    boundary: of the Laplacian unwrapping.
  """
  if kind == AS_IT_IS:
    return wrap(np.asarray(phase, np.float32)) * (magnitude > 0)
  if kind == 'homodyne':
    _check_sigma(sigma_mm, spacing_mm)
    return _by_slab(
      lambda m, p: _homodyne(m, p, spacing_mm, sigma_mm), magnitude, phase
    )
  inside = np.ones(phase.shape, bool) if mask is None else mask
  if kind == 'gaussian':
    return _by_slab(
      lambda m, p, i: _gaussian(_complex(m, p), i, spacing_mm, sigma_mm),
      magnitude,
      phase,
      inside,
    )
  if kind in ('laplacian', 'laplacianslice'):
    if kind == 'laplacianslice':  # steps to a slice infinitely far off are 0
      spacing_mm = (*spacing_mm[:2], np.inf)
    smooth = laplacian_unwrap(phase, spacing_mm, boundary=boundary)
    return _by_slab(
      lambda p, i: p - _masked_mean(p, i, spacing_mm, sigma_mm), smooth, inside
    )
  raise InputError(
    f'high-pass: found {kind!r}; give one of '
    f'{", ".join((*HIGH_PASSES, AS_IT_IS))}.'
  )


def homodyne(
  signal: np.ndarray, spacing_mm: tuple[float, float, float], *, sigma_mm: float
) -> np.ndarray:
  """Phase left after division by a Hann low-pass of each axial slice.

  Every slice is first freed of a fitted plane and parabola of phase, so the
  result does not depend on a linear or quadratic background (a shifted echo,
  a shim), which a window centred on k = 0 alone would only attenuate.

  Args:
    signal: complex [X, Y, Z], one echo of one coil.
    spacing_mm: voxel sizes.
    sigma_mm: width of the Gaussian that the window resembles. Objects larger
      than about twice this lose contrast.

  Returns:
    float32 [X, Y, Z] in radians, -pi..pi.

  Raises:
    InputError: the window would be as wide as the matrix, which leaves no
      phase.

  Source: Noll et al. 1991 (homodyne); Haacke et al. 2004 (SWI).
  """
  _check_sigma(sigma_mm, spacing_mm)
  return _by_slab(
    lambda s: _homodyne(np.abs(s), np.angle(s), spacing_mm, sigma_mm),
    np.asarray(signal, np.complex64),
  )


def laplacian_unwrap(
  phase: np.ndarray,
  spacing_mm: tuple[float, float, float],
  *,
  boundary: str = 'mirror',
) -> np.ndarray:
  """Unwrapped phase whose Laplacian fits that of the wrapped one best.

  Args:
    phase: [X, Y, Z] rad.
    spacing_mm: voxel sizes; steps over thick slices count less.
    boundary: 'mirror' (cosine transform) or 'periodic' (Fourier).

  Returns:
    float32 [X, Y, Z] rad with mean 0; exact where true steps stay below pi.

  Source: Ghiglia and Romero 1994 (wrapped steps, cosine transform); Schofield
  and Zhu 2003 (Fourier).
  """
  if boundary not in BOUNDARIES:
    raise InputError(
      f'boundary: found {boundary!r}; give one of {", ".join(BOUNDARIES)}.'
    )
  mirror = boundary == 'mirror'
  phase = np.asarray(phase, np.float32)
  source = np.zeros(phase.shape, np.float32)
  symbol = np.zeros((1, 1, 1), np.float32)
  for axis, size in enumerate(phase.shape):
    weight = np.float32((min(spacing_mm) / spacing_mm[axis]) ** 2)
    _add_divergence(source, phase, axis, weight, mirror=mirror)
    angle = np.arange(size) * (np.pi if mirror else 2 * np.pi) / size
    row = (weight * (2 * np.cos(angle) - 2)).astype(np.float32)
    symbol = symbol + row.reshape([-1 if a == axis else 1 for a in range(3)])
  flat = symbol == 0  # the mean, which no step tells
  inverse = np.where(flat, 0, 1 / np.where(flat, 1, symbol))
  if mirror:
    spectrum = scipy.fft.dctn(source, workers=_THREADS, overwrite_x=True)
    spectrum *= inverse
    return scipy.fft.idctn(spectrum, workers=_THREADS, overwrite_x=True)
  spectrum = scipy.fft.fftn(source, workers=_THREADS) * inverse
  return scipy.fft.ifftn(spectrum, workers=_THREADS, overwrite_x=True).real


def _add_divergence(source, phase, axis, weight, *, mirror):
  """Adds the second difference of wrapped steps along one axis."""
  if phase.shape[axis] < 2:
    return
  step = wrap(np.diff(phase, axis=axis)) * weight
  later, earlier = (
    tuple(part if a == axis else slice(None) for a in range(3))
    for part in (slice(1, None), slice(None, -1))
  )
  source[earlier] += step
  source[later] -= step
  if not mirror:
    first, last = (
      tuple([end] if a == axis else slice(None) for a in range(3))
      for end in (0, -1)
    )
    step = wrap(phase[first] - phase[last]) * weight
    source[last] += step
    source[first] -= step


def wrap(phase: np.ndarray) -> np.ndarray:
  """Any phase to -pi..pi."""
  turns = np.rint(phase * np.float32(0.5 / np.pi))
  return phase - turns * np.float32(2 * np.pi)


def _wrap_into(phase):
  """`wrap` that may use the array itself."""
  turns = np.rint(phase * np.float32(0.5 / np.pi))
  turns *= np.float32(2 * np.pi)
  phase -= turns
  return phase


def _homodyne(magnitude, phase, spacing_mm, sigma_mm):
  """One slab [z, Y, X]."""
  local = phase - _background(magnitude, phase)
  parts = np.cos(local), np.sin(local)
  for part in parts:
    part *= magnitude
  real, imaginary = (_low_pass(p, spacing_mm, sigma_mm) for p in parts)
  local -= np.arctan2(imaginary, real)
  local = _wrap_into(local)
  local *= magnitude > 0  # noise-free air has no phase
  return local


def _low_pass(image, spacing_mm, sigma_mm):
  """Hann window along y and x of a real slab [z, Y, X].

  The cosine transform continues beyond the edges like a mirror, so tissue that
  a field of view cuts off never meets that of the other side. Waves outside
  the window are not computed at all.
  """
  sizes = image.shape[1:]
  windows = [
    _hann(size, spacing, sigma_mm)
    for size, spacing in zip(sizes, spacing_mm[1::-1])
  ]
  image = scipy.fft.dct(image, axis=2)[..., : len(windows[1])]
  image = scipy.fft.dct(image, axis=1)[:, : len(windows[0])]
  image *= windows[0][:, None] * windows[1]
  image = scipy.fft.idct(image, n=sizes[0], axis=1)
  return scipy.fft.idct(image, n=sizes[1], axis=2, overwrite_x=True)


def _hann(size, spacing, sigma_mm):
  """Weights of the cosine waves 0, 1, ... up to the window's edge."""
  edge = 2 * size * spacing * _HANN_EDGE / sigma_mm  # half waves per field
  count = min(int(np.ceil(edge)), size)
  wave = np.arange(max(count, 1), dtype=np.float32)
  return 0.5 + 0.5 * np.cos(wave * np.float32(np.pi / edge))


def _gaussian(signal, inside, spacing_mm, sigma_mm):
  signal = signal * inside
  # The angle is blind to the positive weight that a masked mean divides by.
  low = _smooth(signal, spacing_mm, sigma_mm)
  np.conjugate(low, out=low)
  low *= signal
  return np.arctan2(low.imag, low.real)


def _masked_mean(image, inside, spacing_mm, sigma_mm):
  weight, total = (
    _smooth(a, spacing_mm, sigma_mm)
    for a in (inside.astype(np.float32), image * inside)
  )
  return total / np.maximum(weight, 1e-6)


def _smooth(image, spacing_mm, sigma_mm):
  """Gaussian within the slices of a slab [z, Y, X]."""
  sigma = (0, sigma_mm / spacing_mm[1], sigma_mm / spacing_mm[0])
  return ndimage.gaussian_filter(image, sigma, mode='constant', truncate=3)


def _background(magnitude, phase):
  """Plane and parabola, rad [z, Y, X], that carry most of a slice's slope.

  The slope of the phase comes from differences of neighbours, added as
  phasors in blocks, so nothing needs to be unwrapped. A linear slope over the
  slice is fitted to the blocks: few steep ones, above the sinuses, must not
  tilt the rest, so they lose weight.
  """
  _, size_y, size_x = phase.shape
  y = np.arange(size_y, dtype=np.float32) - size_y // 2
  x = np.arange(size_x, dtype=np.float32) - size_x // 2
  # A quarter of the lines is plenty: a slice has 100,000 voxels.
  lines = _complex(magnitude[:, ::_FIT_STEP], phase[:, ::_FIT_STEP])
  along_x = lines[..., 1:] * np.conj(lines[..., :-1])
  lines = _complex(magnitude[..., ::_FIT_STEP], phase[..., ::_FIT_STEP])
  along_y = lines[:, 1:] * np.conj(lines[:, :-1])
  slope_x, twist_x, curve_x = _fit_slope(along_x, y[::_FIT_STEP], x[:-1] + 0.5)
  slope_y, curve_y, twist_y = _fit_slope(along_y, y[:-1] + 0.5, x[::_FIT_STEP])
  twist = (twist_x + twist_y) / 2
  plane = twist[:, :, None] * (y[:, None] * x)
  plane += (slope_x * x + curve_x * (0.5 * x**2))[:, None]
  plane += (slope_y * y + curve_y * (0.5 * y**2))[..., None]
  return plane


def _fit_slope(steps, y, x):
  """Angle of steps [z, y, x] as a + b y + c x; three arrays [z, 1].

  A weighted fit to block sums, repeated with less weight for what is far off.
  """
  blocks, block_y, block_x = _block_sums(steps, y, x)  # z B, B, B
  total = blocks.sum(1, keepdims=True)
  angle = np.angle(blocks * np.conj(total))
  weight = np.abs(blocks)
  weight /= np.maximum(weight.sum(1, keepdims=True), np.finfo(np.float32).tiny)
  design = np.stack([np.ones_like(block_y), block_y, block_x], -1)  # B 3
  ridge = 1e-6 * np.diag([1.0, np.ptp(y) ** 2 + 1, np.ptp(x) ** 2 + 1])
  trust = weight
  for _ in range(_FIT_ROUNDS):
    normal = np.einsum('zb,bi,bj->zij', trust, design, design) + ridge
    right = np.einsum('zb,bi,zb->zi', trust, design, angle)
    fit = np.linalg.solve(normal, right[..., None])[..., 0]
    off = (angle - fit @ design.T) / _FIT_SCALE_RAD
    trust = weight / (1 + off**2) ** 2
  fit[:, :1] += np.angle(total)
  return tuple(fit[:, i : i + 1].astype(np.float32) for i in range(3))


def _block_sums(steps, y, x):
  """Sums [z, B] over blocks and their mean places [B], [B]."""
  starts = [
    np.unique(np.linspace(0, len(a), _FIT_BLOCKS + 1).astype(int)[:-1])
    for a in (y, x)
  ]
  sums = np.add.reduceat(np.add.reduceat(steps, starts[0], 1), starts[1], 2)
  places = [
    np.add.reduceat(a, s) / np.diff(np.append(s, len(a)))
    for a, s in zip((y, x), starts)
  ]
  place_y, place_x = np.meshgrid(*places, indexing='ij')
  return sums.reshape(len(steps), -1), place_y.ravel(), place_x.ravel()


def _complex(magnitude, phase):
  result = np.empty(phase.shape, np.complex64)
  np.cos(phase, out=result.real)
  np.sin(phase, out=result.imag)
  result *= magnitude
  return result


def _by_slab(function: Callable, *arrays: np.ndarray) -> np.ndarray:
  """Applies a function of slabs [z, Y, X] to volumes [X, Y, Z], in threads.

  The result is in memory slice after slice, as in NIfTI files; of volumes
  only slabs are copied.
  """
  out = np.empty(arrays[0].shape, np.float32, order='F')

  def work(start):
    part = slice(start, start + _SLAB)
    slabs = (_floating(np.ascontiguousarray(a[..., part].T)) for a in arrays)
    out[..., part].T[...] = function(*slabs)

  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    list(pool.map(work, range(0, out.shape[2], _SLAB)))
  return out


def _floating(slab):
  """Whole numbers in single precision; anything else as it is."""
  return slab.astype(np.float32) if slab.dtype.kind in 'iu' else slab


def _check_sigma(sigma_mm, spacing_mm):
  least = 0.75 * max(spacing_mm[:2])
  if not sigma_mm > least:
    raise InputError(
      f'sigma_mm: found {sigma_mm:g}; the homodyne window would be as wide as '
      f'the matrix and leave no phase; give more than {least:g} mm.'
    )
