// Which voxel belongs to which candidate: the volume of numbers, and the
// voxels of each number, kept in step. A candidate may cover another one:
// its voxels are in no volume, and one of the two is in sight at a time.

export class Labels {
  constructor(dim, volume) {
    this.dim = dim;
    this.volume = volume;
    this.sets = new Map();
    this.lists = new Map();
    this.under = new Map(); // number -> the number that it covers
    for (let i = 0; i < volume.length; i++) {
      if (volume[i]) this.of(volume[i]).add(i);
    }
  }

  of(item) {
    if (!this.sets.has(item)) this.sets.set(item, new Set());
    return this.sets.get(item);
  }

  // A candidate with its whole outline, as runs of [start, length].
  lay(item, under, runs) {
    this.under.set(item, under);
    const set = new Set();
    for (const [start, length] of runs) {
      for (let i = start; i < start + length; i++) set.add(i);
    }
    this.sets.set(item, set);
    this.lists.delete(item);
  }

  // Whose a voxel is, as candidate `item` finds it.
  get(index, item = 0) {
    const value = this.volume[index];
    if (!this.under.has(item)) return value;
    if (this.of(item).has(index)) return item;
    return value === this.under.get(item) ? 0 : value;
  }

  set(index, value, item = 0) {
    if (this.under.has(item)) {
      this.of(item)[value === item ? 'add' : 'delete'](index);
      this.lists.delete(item);
      return;
    }
    const old = this.volume[index];
    if (old === value) return;
    this.volume[index] = value;
    if (old) { this.of(old).delete(index); this.lists.delete(old); }
    if (value) { this.of(value).add(index); this.lists.delete(value); }
  }

  apply(changes) {
    for (const [index, value] of changes) this.set(index, value);
  }

  items() { return [...this.sets.keys()]; }

  // Whether a candidate is out of sight while `current` is being read.
  hides(number, current) {
    return this.under.has(number) ? number !== current
      : number === this.under.get(current);
  }

  // Linear indices of one candidate.
  voxels(item) {
    if (!this.lists.has(item)) {
      this.lists.set(item, Int32Array.from(this.sets.get(item) || []));
    }
    return this.lists.get(item);
  }
}

// The numbers that a slab of one plane shows: pixel -> number, where pixel is
// u + nu * v. A projection for looking, never for drawing on.
export function silhouette(labels, plane, [first, last], numbers) {
  const [X, Y] = labels.dim;
  const nu = labels.dim[plane.u];
  const pixels = new Map();
  const at = [0, 0, 0];
  for (const item of numbers) {
    for (const index of labels.voxels(item)) {
      at[0] = index % X;
      at[1] = (index / X | 0) % Y;
      at[2] = index / (X * Y) | 0;
      if (at[plane.w] < first || at[plane.w] > last) continue;
      pixels.set(at[plane.u] + nu * at[plane.v], item);
    }
  }
  return pixels;
}

// Edges between a number and anything else, by number: [u, v, u, v, ...].
export function edges(pixels, nu) {
  const found = new Map();
  for (const [pixel, item] of pixels) {
    const u = pixel % nu;
    const v = (pixel - u) / nu;
    if (!found.has(item)) found.set(item, []);
    const path = found.get(item);
    if (u === 0 || pixels.get(pixel - 1) !== item) path.push(u, v, u, v + 1);
    if (u === nu - 1 || pixels.get(pixel + 1) !== item) {
      path.push(u + 1, v, u + 1, v + 1);
    }
    if (pixels.get(pixel - nu) !== item) path.push(u, v, u + 1, v);
    if (pixels.get(pixel + nu) !== item) path.push(u, v + 1, u + 1, v + 1);
  }
  return found;
}
