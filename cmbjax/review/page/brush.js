// Painting in millimetres: one stroke is what comes between pen down and pen
// up, whatever the number of pointer events.

import {indexOf, inside, nearest} from './planes.js';

export const SIZES_MM = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 20];

export class Brush {
  constructor({dim, spacing}, labels) {
    Object.assign(this, {dim, spacing, labels});
    this.mm = 3; // diameter
    this.sphere = true; // else a disc in the plane that is painted on
    this.darkest = null; // raw value: only voxels at or below it are painted
    this.image = null; // raw voxels of the sequence that is judged
    this.stroke = null;
  }

  // `free` says whether a voxel of another candidate may be taken.
  begin({item, erase, free}) {
    this.stroke = {item, erase, free, changed: new Set()};
    this.last = null;
  }

  // A point in voxel units (the centre of voxel 0 is 0), on a plane.
  move(point, plane) {
    const from = this.last || point;
    const apart = Math.hypot(...point.map((one, axis) =>
      (one - from[axis]) * this.spacing[axis]));
    const step = Math.max(Math.min(...this.spacing) / 2, this.mm / 8);
    const count = Math.max(1, Math.ceil(apart / step));
    for (let n = this.last ? 1 : count; n <= count; n++) {
      this.stamp(from.map((one, axis) =>
        one + (point[axis] - one) * n / count), plane);
    }
    this.last = point;
  }

  stamp(point, plane) {
    const {dim, spacing} = this;
    const radius = this.mm / 2;
    const centre = nearest(point, dim);
    this.touch(indexOf(centre, dim));
    const reach = spacing.map((one, axis) =>
      axis === plane.w && !this.sphere ? 0 : Math.ceil(radius / one) + 1);
    const at = [0, 0, 0];
    for (let k = -reach[2]; k <= reach[2]; k++) {
      for (let j = -reach[1]; j <= reach[1]; j++) {
        for (let i = -reach[0]; i <= reach[0]; i++) {
          at[0] = centre[0] + i; at[1] = centre[1] + j; at[2] = centre[2] + k;
          if (!inside(at, dim)) continue;
          const apart = at.map((one, axis) =>
            axis === plane.w ? one - centre[axis] : one - point[axis]);
          if (Math.hypot(...apart.map((one, axis) => one * spacing[axis])) <=
              radius) this.touch(indexOf(at, dim));
        }
      }
    }
  }

  touch(index) {
    const {item, erase, free, changed} = this.stroke;
    const old = this.labels.get(index, item);
    const value = erase ? 0 : item;
    if (old === value || (erase && old !== item)) return;
    if (old && old !== item && !free(old)) return;
    if (!erase && this.darkest !== null && this.image &&
        this.image[index] > this.darkest) return;
    changed.add(index);
    this.labels.set(index, value, item);
  }

  // Ends the stroke: what to send, or null when nothing was changed.
  end() {
    const {item, erase, changed} = this.stroke;
    this.stroke = null;
    if (!changed.size) return null;
    const indices = [...changed];
    return {
      item, set: erase ? [] : indices, clear: erase ? indices : [],
      tool: {name: erase ? 'eraser' : 'brush', mm: this.mm,
        shape: this.sphere ? 'sphere' : 'disc', darkest: this.darkest},
    };
  }
}
