// Slices of a volume. Voxels are in RAS order, x fastest; a slice is stored
// row by row, its first row the one with the highest v (top of the screen).

export const PLANES = [
  {name: 'axial', u: 0, v: 1, w: 2},
  {name: 'coronal', u: 0, v: 2, w: 1},
  {name: 'sagittal', u: 1, v: 2, w: 0},
];

export const strides = (dim) => [1, dim[0], dim[0] * dim[1]];

export const indexOf = (ijk, dim) =>
  ijk[0] + dim[0] * (ijk[1] + dim[1] * ijk[2]);

export const inside = (ijk, dim) =>
  ijk.every((one, axis) => one >= 0 && one < dim[axis]);

export const clamp = (value, low, high) =>
  Math.max(low, Math.min(high, value));

export const nearest = (ijk, dim) =>
  ijk.map((one, axis) => clamp(Math.round(one), 0, dim[axis] - 1));

// World mm of a voxel (RAS), by the affine of the view.
export const world = (ijk, affine) => [0, 1, 2].map((row) =>
  affine[row][0] * ijk[0] + affine[row][1] * ijk[1] +
  affine[row][2] * ijk[2] + affine[row][3]);

// Of a voxel, in mm3.
export const volumeOf = ([a, b, c]) => Math.abs(
  a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) +
  a[2] * (b[0] * c[1] - b[1] * c[0]));

// Slices in a slab: the odd integer >= 1 that is nearest to mm / spacing;
// half-way the larger one wins.
export function slabCount(mm, spacing) {
  if (!(mm > 0)) return 1;
  return 2 * Math.floor(Number((mm / spacing).toFixed(9)) / 2) + 1;
}

export function slabRange(index, count, size) {
  const half = (count - 1) / 2;
  return [Math.max(0, index - half), Math.min(size - 1, index + half)];
}

// The minimum over slices first..last of a plane, into `out`. Slices outside,
// columns inside: so neighbours in memory are met one after the other.
export function cut(voxels, dim, plane, [first, last], out) {
  const step = strides(dim);
  const [nu, nv] = [dim[plane.u], dim[plane.v]];
  out.fill(32767);
  for (let v = 0; v < nv; v++) {
    const row = (nv - 1 - v) * nu;
    for (let w = first; w <= last; w++) {
      let from = v * step[plane.v] + w * step[plane.w];
      for (let u = row; u < row + nu; u++, from += step[plane.u]) {
        if (voxels[from] < out[u]) out[u] = voxels[from];
      }
    }
  }
}

// Opaque greys for every int16 value.
export function greys(low, high, {slope, intercept}) {
  const table = new Uint32Array(65536);
  const scale = 255 / Math.max(high - low, 1e-9);
  for (let raw = -32768; raw < 32768; raw++) {
    const grey = clamp((raw * slope + intercept - low) * scale, 0, 255) | 0;
    table[raw + 32768] = 0xff000000 | grey << 16 | grey << 8 | grey;
  }
  return table;
}

export function shade(slice, table, pixels) {
  for (let i = 0; i < slice.length; i++) pixels[i] = table[slice[i] + 32768];
}
