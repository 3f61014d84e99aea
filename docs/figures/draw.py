"""The figures of the documentation: `python docs/figures/draw.py [NAME ...]`.

Rule: everything is drawn from the program itself, from simulated scans with
the seed below; no file is larger than 80 kB.
"""

import io
import json
import pathlib
import sys
import tempfile

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
SEED = 2024  # of the simulated scan, and of everything that is drawn at random
SLAB_MM = 40.0
BLUE, ORANGE, PURPLE = '#2f6694', '#a8650f', '#83438f'
RED, GREEN, GREY = '#b23a3a', '#2d7a4c', '#6a717b'
MARKS = ('#46a0e6', '#ffb02e', '#ff5c5c')  # lesion, mimic, dropped; on grey
MOST_BYTES = 80_000

plt.rcParams.update(
  {
    'figure.dpi': 110,
    'figure.facecolor': '#ffffff',
    'font.size': 9,
    'font.family': 'sans-serif',
    'axes.titlesize': 9.5,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'image.cmap': 'gray',
    'figure.constrained_layout.use': True,
  }
)


def save(figure, name: str, *, greys: int = 0) -> None:
  """A small PNG; `greys`: that many grey levels and our own colours."""
  held = io.BytesIO()
  figure.savefig(held, format='png')
  plt.close(figure)
  image, out = trimmed(Image.open(held).convert('RGB')), io.BytesIO()
  small = image.quantize(
    128, palette=palette(greys) if greys else None, dither=Image.Dither.NONE
  )
  small.save(out, format='PNG', optimize=True)
  if out.tell() > MOST_BYTES:
    raise ValueError(f'{name}: {out.tell()} bytes; draw it smaller')
  (HERE / f'{name}.png').write_bytes(out.getvalue())
  print(f'{name}.png {out.tell() // 1000} kB')


def trimmed(image: Image.Image, margin: int = 8) -> Image.Image:
  """Without white above and below; the width stays, so that text does."""
  rows = np.flatnonzero((np.asarray(image.convert('L')) < 255).any(1))
  top, bottom = max(rows[0] - margin, 0), rows[-1] + 1 + margin
  return image.crop((0, top, image.width, min(bottom, image.height)))


def palette(greys: int) -> Image.Image:
  """Greys from black to white, and the marks' colours."""
  levels = np.linspace(0, 255, greys).round().astype(int)
  colours = [[v, v, v] for v in levels] + [
    [int(mark[i : i + 2], 16) for i in (1, 3, 5)] for mark in MARKS
  ]
  image = Image.new('P', (1, 1))
  image.putpalette([value for colour in colours for value in colour])
  return image


class Material:
  """One simulated slab, made once."""

  def __init__(self):
    from cmbjax.candidates import detector
    from cmbjax.data import cohort, tables
    from cmbjax.imaging import volume
    from cmbjax.simulate import cohort as simulate

    with tempfile.TemporaryDirectory() as folder:
      folder = pathlib.Path(folder)
      simulate.simulate(
        'btumor_7t', subjects=1, out=folder, seed=SEED, jobs=1, slab_mm=SLAB_MM
      )
      self.scan = cohort.read_cohort(folder).scans[0]
      self.loaded = cohort.load_scan(self.scan)
      stem = folder / 'sub-7T001/anat/sub-7T001_part-'
      self.magnitude = volume.load(f'{stem}mag_T2starw.nii.gz').array
      self.phase = volume.load(f'{stem}phase_T2starw.nii.gz').array
      mimics = folder / 'derivatives/truth/sub-7T001/anat'
      self.mimics = volume.load(
        mimics / 'sub-7T001_seg-mimic_dseg.nii.gz'
      ).array
      table = (mimics / 'sub-7T001_seg-mimic_dseg.tsv').read_text()
    rows = [line.split('\t') for line in table.splitlines()]
    kind = rows[0].index('type')
    self.kind_of = {int(row[0]): row[kind] for row in rows[1:]}
    swi, spacing = self.loaded.swi, self.loaded.spacing_mm
    self.found = detector.propose(swi, spacing, self.loaded.mask)
    self.lesion = tables.lesion_of(
      self.found.centre, self.found.regions, self.loaded
    )
    inside = np.nonzero(self.loaded.mask)
    self.box = tuple(slice(i.min() - 3, i.max() + 4) for i in inside[:2])
    self.zoom = tuple(
      slice((s.start + s.stop) // 2 - n, (s.start + s.stop) // 2 + n)
      for s, n in zip(self.box, (75, 93))
    )
    self.middle = int((self.loaded.truth.labels > 0).sum((0, 1)).argmax())


def show(axis, image, title='', **how) -> None:
  """One axial slice [X, Y], the patient's right on the left."""
  axis.imshow(image[::-1, ::-1].T, interpolation='nearest', **how)
  axis.set_title(title)
  axis.set_xticks([])
  axis.set_yticks([])
  for side in axis.spines.values():
    side.set_visible(False)


def places(centre, part):
  """Where voxels [N, 3] are in a picture of `part`; others fall outside."""
  inside = np.ones(len(centre), bool)
  out = []
  for axis, along in enumerate(part):
    place = along.stop - 1 - centre[:, axis]
    inside &= (place >= 0) & (place < along.stop - along.start)
    out.append(place)
  return out[0][inside], out[1][inside]


def crop(image, centre, reach):
  """A square [2 reach + 1, 2 reach + 1] of the slice of a voxel."""
  x, y, z = centre
  return image[x - reach : x + reach + 1, y - reach : y + reach + 1, z]


def way(material: Material) -> None:
  """Scan, SWI, candidates, patches, likelihoods: the data way."""
  z, box = material.middle, material.box
  swi, found = material.loaded.swi, material.found
  figure = plt.figure(figsize=(8.4, 2.55))
  whole, right = figure.subfigures(1, 2, width_ratios=[4.5, 2.4])
  axes = whole.subplots(1, 4)
  magnitude = material.magnitude[box][..., z]
  show(
    axes[0], magnitude, 'magnitude', vmin=0, vmax=np.quantile(magnitude, 0.998)
  )
  show(axes[1], material.phase[box][..., z], 'phase')
  show(axes[2], swi[box][..., z], 'SWI', vmin=0.1, vmax=1)
  part = material.zoom
  show(axes[3], swi[part][..., z], 'candidates', vmin=0.1, vmax=1)
  near = found.kept & (abs(found.centre[:, 2] - z) <= 1)
  for colour, chosen in zip(MARKS, (material.lesion > 0, material.lesion == 0)):
    x, y = places(found.centre[near & chosen], part)
    axes[3].plot(x, y, 'o', ms=7, mfc='none', mec=colour, mew=1.6)
  tiles = right.subplots(2, 3)
  rows = (material.lesion > 0, material.lesion == 0)
  for row, chosen, word in zip(tiles, rows, ('microbleed', 'mimic')):
    at = np.flatnonzero(found.kept & chosen)[:3]
    for axis, one in zip(row, at):
      show(axis, crop(swi, found.centre[one], 8), vmin=0, vmax=1)
    row[0].set_ylabel(word)
  right.suptitle('patches, labelled by the truth', fontsize=9.5)
  save(figure, 'way', greys=24)


def folds(_) -> None:
  """20 + 12 subjects to a test set and five folds, as the program does it."""
  from cmbjax.data import folds as folds_lib

  cohorts = {
    '7T_Btumor': [f'sub-7T{n:03d}' for n in range(1, 21)],
    '3T_Btumor': [f'sub-3T{n:03d}' for n in range(1, 13)],
  }
  made = folds_lib.make_folds(
    cohorts, 5, num_test={'7T_Btumor': 5, '3T_Btumor': 4}, seed=SEED
  )
  figure, axes = plt.subplots(
    2, 1, figsize=(7.2, 3.3), height_ratios=[5, 5], sharex=True
  )
  for axis, (name, subjects) in zip(axes, cohorts.items()):
    fold = made.of(subjects)
    for column, one in enumerate(fold):
      for k in range(5):
        colour = GREY if one < 0 else (ORANGE if one == k else BLUE)
        light = 0.25 if one < 0 else (1.0 if one == k else 0.35)
        axis.add_patch(
          plt.Rectangle((column, k), 0.9, 0.86, color=colour, alpha=light)
        )
    axis.set(xlim=(-0.2, 20), ylim=(5, 0), ylabel='network of fold')
    axis.set_yticks(np.arange(5) + 0.43, range(5))
    axis.set_xticks([])
    axis.set_title(f'{name}: one column per subject', loc='left')
    axis.tick_params(length=0)
    axis.spines[['bottom', 'left']].set_visible(False)
  for colour, light, text in (
    (BLUE, 0.35, 'trains'),
    (ORANGE, 1.0, 'held out: steers the rate, is predicted'),
    (GREY, 0.25, 'test: seen by no network'),
  ):
    axes[1].plot([], [], 's', color=colour, alpha=light, label=text, ms=8)
  axes[1].legend(loc='center right', frameon=False, bbox_to_anchor=(1.02, 0.5))
  save(figure, 'folds')


def replicas(_) -> None:
  """The replica table of configs/study.py, and schedules per row."""
  from cmbjax.study import config as configs
  from cmbjax.study import resolve
  from cmbjax.training import optim

  config = configs.load('configs/study.py')
  strategies = config.strategies
  study = resolve.study_of(config)
  rows = [row for name in strategies for row in study.recipes[name].rows]
  figure, (left, right) = plt.subplots(
    1, 2, figsize=(8.0, 3.5), width_ratios=[1.15, 1]
  )
  colours = dict(zip(strategies, (RED, GREEN, '#6b63ad', '#45525f')))
  for at, row in enumerate(rows):
    colour = colours[row.strategy]
    text = f'{row.strategy:<10} fold {row.fold}  seed {row.seed}'
    left.text(
      0, at, text, va='center', color=colour, family='monospace', fontsize=7
    )
    for leaf, width in enumerate((1.4, 1.0, 0.7)):
      left.add_patch(
        plt.Rectangle(
          (5.2 + 1.7 * leaf, at - 0.4), width, 0.8, color=colour, alpha=0.75
        )
      )
  left.text(
    5.2, -1.1, 'weights, Adam, statistics: [R, ...]', fontsize=7, color=GREY
  )
  left.set(xlim=(0, 10.4), ylim=(len(rows), -1.8))
  left.axis('off')
  left.set_title(f'R = {len(rows)} rows of configs/study.py', loc='left')
  draw = np.random.default_rng(SEED)
  num, epochs = len(strategies), 24
  train = config.train
  table = [study.recipes[name].rows[0] for name in strategies]
  state, scale = optim.plateau_init(num), []
  floor = draw.uniform(0.25, 0.4, num)
  pace = draw.uniform(2, 6, num)
  for epoch in range(epochs):
    value = floor + 0.4 * np.exp(-epoch / pace) + draw.normal(0, 0.012, num)
    state = optim.plateau_step(table, state, value)
    scale.append(state.scale)
  right.step(range(epochs), train.learning_rate * np.array(scale), where='post')
  for line, strategy in zip(right.lines, strategies):
    line.set(color=colours[strategy], lw=1.6)
  right.set(yscale='log', xlabel='epoch', ylabel='learning rate')
  right.set_title('each row has its own plateau (made-up losses)', loc='left')
  save(figure, 'replicas')


def physics(material: Material) -> None:
  """One deposit: its field, and how it looks through five protocols."""
  from cmbjax.simulate import lesions, protocols

  figure, axes = plt.subplots(1, 6, figsize=(8.4, 1.9))
  step = np.linspace(-5, 5, 101)
  x, z = np.meshgrid(step, step, indexing='ij')
  # A sphere of 0.75 mm and 1 ppm: 0 inside, a dipole along z outside.
  far = np.maximum(np.hypot(x, z), 0.75)
  field = (3 * (z / far) ** 2 - 1) * (0.75 / far) ** 3 / 3
  field[np.hypot(x, z) <= 0.75] = 0
  axes[0].imshow(
    field[:, ::-1].T,
    cmap='RdBu_r',
    vmin=-0.05,
    vmax=0.05,
    extent=(-5, 5, -5, 5),
  )
  axes[0].set_title('field, coronal')
  names = (
    'btumor_7t',
    'btumor_7t_4echo',
    'btumor_3t',
    'ccm_3t',
    'clinical_15t',
  )
  for axis, name in zip(axes[1:], names):
    protocol = protocols.get_protocol(name)
    echo_s = protocol.echo_times_s[-1]
    fine = 0.25
    count = 48
    middle = count * fine / 2
    deposit = lesions.Deposit(
      'microbleed',
      np.array([[middle, middle, middle, 0.75]], np.float32),
      np.array([1.0], np.float32),
    )
    effect = lesions.effect(
      deposit, (count,) * 3, (fine,) * 3, b0=np.array([0, 0, 1.0]),
      field_t=protocol.field_t, echo_times_s=(echo_s,),
    )  # fmt: skip
    signal = np.ones((count,) * 3, np.complex64)
    signal[effect.box] = effect.factors[0]
    size = [max(round(v / fine), 1) for v in protocol.voxel_mm]
    whole = [count // n * n for n in size]
    start = [(count - n) // 2 for n in whole]
    cut = signal[tuple(slice(a, a + n) for a, n in zip(start, whole))]
    parts = [v for n, s in zip(whole, size) for v in (n // s, s)]
    voxels = cut.reshape(parts).mean((1, 3, 5))
    mask = np.clip(1 + np.minimum(np.angle(voxels), 0) / np.pi, 0, 1) ** 4
    swi = abs(voxels) * mask
    mid = swi.shape[2] // 2
    axis.imshow(swi[..., mid].T, vmin=0, vmax=1, extent=(-6, 6, -6, 6))
    mm = ' x '.join(f'{v:g}' for v in protocol.voxel_mm)
    axis.set_title(
      f'{protocol.field_t:g} T, {1000 * echo_s:g} ms\n{mm}', fontsize=8
    )
    axis.set(xlim=(-5, 5), ylim=(-5, 5))
  for axis in axes:
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
      side.set_visible(False)
  save(figure, 'physics')


def candidates(material: Material) -> None:
  """SWI, radial symmetry, and what the gates let through."""
  from cmbjax.candidates import radial_symmetry

  z, part, found = material.middle, material.zoom, material.found
  swi = material.loaded.swi
  response = radial_symmetry.radial_symmetry(
    swi, material.loaded.spacing_mm, mask=material.loaded.mask
  )
  figure, axes = plt.subplots(1, 3, figsize=(8.0, 3.7))
  show(axes[0], swi[part][..., z], 'SWI', vmin=0.1, vmax=1)
  top = np.quantile(response[..., z], 0.9995)
  show(axes[1], response[part][..., z], 'radial symmetry', vmin=0, vmax=top)
  show(axes[2], swi[part][..., z], 'kept (rings), dropped (crosses)', vmin=0.1)
  near = found.centre[:, 2] == z
  for keep, colour, how in (
    (False, MARKS[2], {'marker': 'x', 'ms': 5}),
    (True, MARKS[0], {'marker': 'o', 'ms': 9, 'mfc': 'none'}),
  ):
    x, y = places(found.centre[near & (found.kept == keep)], part)
    axes[2].plot(x, y, ls='', mec=colour, mew=1.7, **how)
  save(figure, 'candidates', greys=32)


def mimics(material: Material) -> None:
  """What the gates keep: lesions above, named mimics below."""
  found, swi = material.found, material.loaded.swi
  lesion = [i for i in np.flatnonzero(found.kept) if material.lesion[i]]
  named = {}
  for i in np.flatnonzero(found.kept & (material.lesion == 0)):
    x, y, z = found.centre[i]
    near = material.mimics[x - 2 : x + 3, y - 2 : y + 3, z]
    kind = material.kind_of.get(int(near.max()), '') if near.any() else ''
    if kind:
      if kind in ('vein: cortical', 'vein: medullary', 'vein: penetrating'):
        kind = f'{kind.removeprefix("vein: ")} vein'
      named.setdefault(kind.removeprefix('vein: '), i)
  pairs = list(named.items())[:5]
  figure, axes = plt.subplots(2, 5, figsize=(7.2, 3.3))
  for axis, i in zip(axes[0], lesion):
    show(axis, crop(swi, found.centre[i], 12), 'microbleed', vmin=0, vmax=1)
  for axis, (kind, i) in zip(axes[1], pairs):
    show(axis, crop(swi, found.centre[i], 12), kind, vmin=0, vmax=1)
  for axis in axes.flat:
    axis.title.set_fontsize(7.5)
    if not axis.images:
      axis.axis('off')
  save(figure, 'mimics')


def coverage(_) -> None:
  """How often a 95 % interval holds the truth, from benchmarks/coverage.py."""
  path = HERE.parents[1] / 'benchmarks/results/coverage.json'
  found = json.loads(path.read_text())['coverage']
  names = {
    'auc': 'AUC',
    'sensitivity_lesions': 'sensitivity, all lesions',
    'fp_per_scan': 'false positives per scan',
  }
  figure, axes = plt.subplots(1, 3, figsize=(8.0, 2.5), sharey=True)
  for axis, (key, title) in zip(axes, names.items()):
    for method, colour in (('jackknife', BLUE), ('bootstrap', ORANGE)):
      counts = [int(n) for n in found[method]]
      share = [100 * found[method][str(n)][key]['coverage'] for n in counts]
      axis.plot(counts, share, 'o-', color=colour, ms=4, label=method)
    axis.axhline(95, color='0.6', ls=':', lw=1)
    axis.set(title=title, xlabel='subjects', ylim=(85, 100), xscale='log')
    axis.set_xticks(counts, counts)
    axis.minorticks_off()
  axes[0].set_ylabel('intervals that hold the truth, %')
  axes[0].legend(frameon=False, loc='lower right')
  save(figure, 'coverage')


DRAWN = (way, folds, replicas, physics, candidates, mimics, coverage)
ALONE = ('folds', 'replicas', 'coverage')  # need no simulated scan


def main(names: list[str]) -> None:
  """Draws the named figures, or all."""
  chosen = [draw for draw in DRAWN if not names or draw.__name__ in names]
  needs = any(draw.__name__ not in ALONE for draw in chosen)
  material = Material() if needs else None
  for draw in chosen:
    draw(material)


if __name__ == '__main__':
  main(sys.argv[1:])
