// Small axial pictures of candidates, drawn from the voxels when they come
// into sight.

import {greys} from './planes.js';

const FIELD_MM = 22;
const BEYOND = 0xff1a1714; // the image

export class Crops {
  constructor(root) {
    this.wanted = new Map(); // canvas -> ijk
    this.source = null;
    this.eye = new IntersectionObserver((seen) => {
      for (const {target, isIntersecting} of seen) {
        target.seen = isIntersecting;
        if (isIntersecting) this.draw(target);
      }
    }, {root, rootMargin: '120px'});
  }

  // source: {raw, slope, intercept, dim, spacing, window, radiological}
  show(source) {
    const table = greys(...source.window, source);
    this.source = {...source, table};
    for (const canvas of this.wanted.keys()) {
      canvas.drawn = null;
      if (canvas.seen) this.draw(canvas);
    }
  }

  add(canvas, ijk) {
    this.wanted.set(canvas, ijk);
    canvas.drawn = null;
    if (canvas.seen) this.draw(canvas);
    else this.eye.observe(canvas);
  }

  // Not in the list: drawn at once.
  now(canvas, ijk) {
    canvas.seen = true;
    this.add(canvas, ijk);
  }

  forget(canvas) {
    this.wanted.delete(canvas);
    this.eye.unobserve(canvas);
  }

  draw(canvas) {
    const ijk = this.wanted.get(canvas);
    const {source} = this;
    if (!source || !ijk || canvas.drawn === String(ijk)) return;
    canvas.drawn = String(ijk);
    const ratio = Math.min(globalThis.devicePixelRatio || 1, 2);
    const side = Math.round(60 * ratio);
    canvas.width = canvas.height = side;
    const {dim, spacing, raw, table} = source;
    const picture = new ImageData(side, side);
    const pixels = new Uint32Array(picture.data.buffer);
    const start = ijk[2] * dim[0] * dim[1];
    for (let y = 0; y < side; y++) {
      const j = Math.floor(ijk[1] + 0.5 -
        ((y + 0.5) / side - 0.5) * FIELD_MM / spacing[1]);
      for (let x = 0; x < side; x++) {
        const across = ((x + 0.5) / side - 0.5) * FIELD_MM / spacing[0];
        const i = Math.floor(ijk[0] + 0.5 +
          (source.radiological ? -across : across));
        pixels[y * side + x] = i >= 0 && j >= 0 && i < dim[0] && j < dim[1]
          ? table[raw[start + i + j * dim[0]] + 32768] : BEYOND;
      }
    }
    canvas.getContext('2d').putImageData(picture, 0, 0);
  }
}
