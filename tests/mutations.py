"""A good file to a spoilt one: by bytes, by structure, or by what it is.

Rule: seeded by the generator that is given, and nothing else.
"""

import copy
import gzip
import io
import json
import os
import pathlib
import random
import struct
import zipfile

ODD = [
  None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, 10**40, 1e308, -1e308, 0.5,
  float('nan'), float('inf'), float('-inf'), '', 'x', '\x00', '🧠', '../..',
  '/etc/passwd', '-1', '1e999', 'nan', [], {}, [[]], [None], [1, 2, 3],
  {'a': {}}, {'': []}, ['x'] * 50, 'é' * 999,
]  # fmt: skip
CELLS = [
  '', 'n/a', 'nan', 'inf', '-inf', '1e999', '-1', '0', '1.5', '99999999999999',
  '1' * 5000, 'x', '"', '""', "'", '\x00', '🧠', '\t', ',', ';', '=1+1', 'true',
  'é', ' ', '1,5', '0x10', '１', '-0', '+', '1_0',
]  # fmt: skip
# Fields of a NIfTI-1 header: place, form, values.
_DIMS = (-32768, -1, 0, 1, 2, 3, 7, 8, 255, 32767)
_FLOATS = (
  float('nan'), float('inf'), float('-inf'), 0.0, -1.0, 1e-38, 1e38, 1.0,
)  # fmt: skip
NIFTI_FIELDS = (
  *((40 + 2 * n, 'h', _DIMS) for n in range(8)),  # dim
  (0, 'i', (0, -1, 348, 540, 2**31 - 1)),  # sizeof_hdr
  (70, 'h', (-1, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 768, 1280, 1536, 2304)),
  (72, 'h', (0, -1, 1, 8, 64, 32767)),  # bitpix
  *((76 + 4 * n, 'f', _FLOATS) for n in range(8)),  # pixdim
  (108, 'f', (*_FLOATS, 1.0, 100.0, 351.5, 352.0, 353.0, 1e9)),  # vox_offset
  (112, 'f', _FLOATS),  # scl_slope
  (116, 'f', _FLOATS),  # scl_inter
  (123, 'B', (0, 1, 2, 3, 255)),  # xyzt_units
  (252, 'h', (-1, 0, 1, 5, 32767)),  # qform_code
  (254, 'h', (-1, 0, 1, 5, 32767)),  # sform_code
  *((256 + 4 * n, 'f', _FLOATS) for n in range(18)),  # quaternion, sform
  (344, '4s', (b'ni1\0', b'n+2\0', b'\0\0\0\0', b'n+1\0', b'xxxx')),
)


def spoil(path: pathlib.Path, rng: random.Random) -> str:
  """Spoils one file in place; the name of how."""
  if rng.random() < 0.06:
    return _misplaced(path, rng)
  data = path.read_bytes()
  ways = [_bytes, *_ways(path.name)]
  way = rng.choice(ways)
  path.write_bytes(way(data, rng))
  return way.__name__.strip('_')


def _ways(name):
  """By structure these are met more often than by bytes."""
  if name.endswith('.nii.gz'):
    return [_packed_image, _packed_image, _bomb]
  if name.endswith(('.nii', '.mgh')):
    return [_header, _header, _header]
  if name.endswith('.jsonl'):
    return [_json_lines, _json_lines, _json_lines, _text]
  if name.endswith('.json'):
    return [_json, _json, _json, _text]
  if name.endswith(('.tsv', '.csv')):
    return [_table, _table, _table, _text]
  if name.endswith(('.npz', '.xlsx')):
    return [_members, _members]
  return [_text]


def _bytes(data, rng):
  """Flips, cuts, splices and repeats."""
  data = bytearray(data)
  for _ in range(rng.randint(1, 3)):
    size = len(data)
    if not size:
      break
    at, other = rng.randrange(size), rng.randrange(size)
    low, high = sorted((at, other))
    kind = rng.randrange(7)
    if kind < 3:
      for _ in range(rng.choice((1, 1, 4, 64))):
        data[rng.randrange(size)] = rng.randrange(256)
    elif kind == 3:
      del data[at:]
    elif kind == 4:
      del data[low : low + rng.choice((1, 4, 100, high - low))]
    elif kind == 5:
      data[at:at] = data[low:high][:10_000]
    else:
      data[at:at] = bytes(rng.choice((0, 255, 10)) for _ in range(8))
  return bytes(data)


def _header(data, rng):
  data = bytearray(data)
  for _ in range(rng.choice((1, 1, 2, 5))):
    at, form, values = rng.choice(NIFTI_FIELDS)
    if at + struct.calcsize(form) <= len(data):
      struct.pack_into('<' + form, data, at, rng.choice(values))
  if rng.random() < 0.1:  # voxels that are no numbers
    at = rng.randrange(352, max(len(data) - 8, 353))
    data[at : at + 8] = struct.pack('<ff', float('nan'), float('inf'))
  return bytes(data)


def _packed_image(data, rng):
  inside = gzip.decompress(data)
  way = rng.choice((_header, _header, _bytes))
  return gzip.compress(way(inside, rng), 1, mtime=0)


def _bomb(data, rng):
  """A small file of very many zeros, whose header says so."""
  inside = bytearray(gzip.decompress(data)[:352])
  sides = rng.choice(((32767,) * 3, (2000,) * 3, (400, 400, 99)))
  for place, side in enumerate((3, *sides)):
    struct.pack_into('<h', inside, 40 + 2 * place, side)
  many = rng.choice((0, 1 << 10, 1 << 22))
  return gzip.compress(bytes(inside) + bytes(many), 1, mtime=0)


def _json(data, rng):
  try:
    value = json.loads(data)
  except ValueError:
    return _bytes(data, rng)
  for _ in range(rng.choice((1, 1, 2, 4))):
    value = changed(value, rng)
  text = json.dumps(value)
  kind = rng.random()
  if kind < 0.05:  # a key twice
    text = text.replace('{', '{"a": 1, "a": 2, ', 1)
  elif kind < 0.1:
    text = '[' * 100_000 + text
  return text.encode()


def changed(value, rng: random.Random):
  """A JSON value with one part missing, added or of another type."""
  places = list(_places(value))
  if not places or rng.random() < 0.05:
    return copy.deepcopy(rng.choice(ODD))
  inside, key = rng.choice(places)
  kind = rng.random()
  if kind < 0.25:
    del inside[key]
  elif kind < 0.35 and isinstance(inside, dict):
    inside[rng.choice(('', 'extra', 'Units', 'a' * 999))] = copy.deepcopy(
      rng.choice(ODD)
    )
  elif kind < 0.45 and isinstance(inside, list):
    inside.insert(key, copy.deepcopy(inside[rng.randrange(len(inside))]))
  else:
    inside[key] = copy.deepcopy(rng.choice(ODD))
  return value


def _places(value):
  """(container, key) of every part, however deep."""
  items = (
    value.items() if isinstance(value, dict)
    else enumerate(value) if isinstance(value, list) else ()
  )  # fmt: skip
  for key, inner in list(items)[:200]:
    yield value, key
    yield from _places(inner)


def _json_lines(data, rng):
  lines = data.split(b'\n')
  at = rng.randrange(len(lines))
  kind = rng.randrange(8)
  if kind < 5:
    lines[at] = _json(lines[at], rng) if lines[at] else b'{}'
  elif kind == 5:
    del lines[at]
  elif kind == 6:
    lines.insert(at, lines[rng.randrange(len(lines))])
  else:
    lines = lines[:at] if rng.random() < 0.8 else []
  return b'\n'.join(lines)


def _table(data, rng):
  text = data.decode('utf-8', 'replace')
  tab = '\t' if '\t' in text else ','
  rows = [line.split(tab) for line in text.split('\n')]
  for _ in range(rng.choice((1, 1, 2, 4))):
    row = rows[rng.choice((0, rng.randrange(len(rows))))]
    at = rng.randrange(len(row)) if row else 0
    kind = rng.randrange(8)
    if kind < 3 and row:
      row[at] = rng.choice(CELLS)
    elif kind == 3 and row:
      del row[at]
    elif kind == 4:
      row[at:at] = row[:1] or ['x']  # a column twice
    elif kind == 5:
      rows.insert(rng.randrange(len(rows)), list(row))
    elif kind == 6 and len(rows) > 1:
      rows.remove(row)
    else:
      for one in rows:
        del one[at : at + 1]
  return '\n'.join(tab.join(row) for row in rows).encode('utf-8', 'replace')


def _text(data, rng):
  """Encodings, line ends, long lines, nothing at all."""
  text = data.decode('utf-8', 'replace')
  return rng.choice(
    (
      lambda: b'\xef\xbb\xbf' + data,
      lambda: data.replace(b'\n', b'\r\n'),
      lambda: data.replace(b'\n', b'\r'),
      lambda: (text + ' é').encode('latin-1', 'replace'),
      lambda: text.encode('utf-16'),
      lambda: data + b'\x00' * 9,
      lambda: b'\x00' * len(data),
      lambda: b'',
      lambda: b'\n\n\n',
      lambda: data + b'x' * 200_000,
      lambda: data.replace(b'\t', b' '),
      lambda: data + data,
    )
  )()


def _members(data, rng):
  """One file of an archive spoilt, lost or huge."""
  out = io.BytesIO()
  with zipfile.ZipFile(io.BytesIO(data)) as old:
    names = old.namelist()
    chosen, kind = rng.choice(names), rng.randrange(6)
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as new:
      for name in names:
        inside = old.read(name)
        if name == chosen:
          if kind == 0:
            continue
          if kind == 1:
            inside = old.read(rng.choice(names))
          elif kind == 2:
            inside += bytes(1 << 22)
          else:
            inside = _array_or_bytes(inside, rng)
        new.writestr(name, inside)
  return out.getvalue()


def _array_or_bytes(data, rng):
  if not data.startswith(b'\x93NUMPY') or rng.random() < 0.5:
    return _bytes(data, rng)
  head = data[: data.find(b'\n')]
  old, new = rng.choice(
    (
      (b"'shape': (", b"'shape': (9999999999999, "),
      (b"'<f", b"'>f"),
      (b"'descr': '", b"'descr': '|O"),
      (b"'<U", b"'|S"),
      (b"'<i", b"'<f"),
      (b'False', b'True'),
    )
  )
  return head.replace(old, new) + data[len(head) :]


def _misplaced(path, rng):
  """Something else than an ordinary file at its place."""
  kind = rng.choice(('folder', 'dangling', 'loop', 'pipe', 'gone', 'device'))
  path.unlink()
  if kind == 'folder':
    path.mkdir()
  elif kind == 'dangling':
    path.symlink_to('not-there')
  elif kind == 'loop':
    path.symlink_to(path.name)
  elif kind == 'pipe':
    os.mkfifo(path)
  elif kind == 'device':
    path.symlink_to('/dev/zero')
  return kind
