// Three planes of a volume on Canvas2D, and the crosshair that joins them.
//
// Rule: what changes asks for one drawing at the next frame (`later`); only
// slices that have changed are cut and shaded again.

import {drawOutlines} from './outlines.js';
import {silhouette} from './labels.js';
import {PLANES, clamp, cut, greys, nearest, shade, slabCount, slabRange} from './planes.js';
import {annotate} from './marks.js';
import {listen} from './pointer.js';

const SIDES = [['L', 'R'], ['P', 'A'], ['I', 'S']]; // low end, high end

export class Viewer {
  constructor(host, hooks) {
    Object.assign(this, {
      host, hooks, position: [0, 0, 0], active: 0, slab: 0, field: null,
      centre: [0, 0, 0], items: new Map(), current: null, tool: null, mm: 3,
      overlay: {shown: true, fill: false}, window: [0, 1], pointer: null,
      options: {radiological: true, smooth: false, crosshair: true},
    });
    host.replaceChildren();
    this.panes = PLANES.map((plane, number) => this.pane(plane, number));
    const sizes = new ResizeObserver(() => this.resize());
    this.panes.forEach(({box}) => sizes.observe(box));
    listen(this);
  }

  pane(plane, number) {
    const box = document.createElement('div');
    box.className = `pane ${plane.name}`;
    const canvas = document.createElement('canvas');
    canvas.setAttribute('role', 'img');
    box.append(canvas);
    this.host.append(box);
    return {
      plane, number, box, canvas, context: canvas.getContext('2d'),
      sheet: document.createElement('canvas'), width: 0, height: 0, key: '',
    };
  }

  load(grid, labels) {
    Object.assign(this, {grid, labels, image: null, field: null});
    this.position = grid.dim.map((size) => size >> 1);
    this.centre = this.millimetres(this.position);
    for (const pane of this.panes) {
      const {u, v} = pane.plane;
      pane.slice = new Int16Array(grid.dim[u] * grid.dim[v]);
      pane.sheet.width = grid.dim[u];
      pane.sheet.height = grid.dim[v];
      pane.draft = pane.sheet.getContext('2d');
      pane.bitmap = pane.draft.createImageData(grid.dim[u], grid.dim[v]);
      pane.pixels = new Uint32Array(pane.bitmap.data.buffer);
      pane.key = '';
    }
    this.resize();
  }

  setImage(image) {
    this.image = image;
    this.table = null;
    this.panes.forEach((pane) => { pane.key = ''; });
    this.later();
  }

  setWindow(low, high) {
    this.window = [low, high];
    this.table = null;
    this.later();
  }

  setSlab(mm) { this.slab = mm; this.later(); }
  setOverlay(overlay) { Object.assign(this.overlay, overlay); this.later(); }
  setOptions(options) { Object.assign(this.options, options); this.later(); }

  setItems(items, current) {
    Object.assign(this, {items, current});
    this.later();
  }

  setTool(name, mm = this.mm) {
    Object.assign(this, {tool: name, mm});
    this.host.dataset.tool = name || '';
    this.later();
  }

  setField(mm, centre = this.position) {
    this.field = mm;
    if (mm) this.centre = this.millimetres(centre);
    this.hooks.onField(this.field);
    this.later();
  }

  jump(ijk) {
    this.position = nearest(ijk, this.grid.dim);
    if (this.field) this.follow();
    this.hooks.onMove(this.position);
    this.later();
  }

  step(by, number = this.active) {
    const {w} = PLANES[number];
    const to = [...this.position];
    to[w] += by;
    this.jump(to);
  }

  // A voxel in the direction of an arrow on the screen.
  nudge(way) {
    const {u, v} = PLANES[this.active];
    const {flip} = this.map(this.panes[this.active]);
    const to = [...this.position];
    to[u] += flip * ((way === 'Right') - (way === 'Left'));
    to[v] += (way === 'Up') - (way === 'Down');
    this.jump(to);
  }

  // Keeps the crosshair in sight when a part of the image is shown.
  follow() {
    const here = this.millimetres(this.position);
    for (const pane of this.panes) {
      const map = this.map(pane);
      for (const [axis, side] of [
        [pane.plane.u, pane.width], [pane.plane.v, pane.height]]) {
        const room = side / map.scale / 2 * 0.92;
        if (Math.abs(here[axis] - map.centre[axis]) > room) {
          this.centre[axis] = here[axis];
        }
      }
    }
  }

  // From the corner of the volume, so that a voxel is [i, i + 1] * spacing.
  millimetres(ijk) {
    return ijk.map((one, axis) => (one + 0.5) * this.grid.spacing[axis]);
  }

  // How a pane maps mm to its pixels (CSS pixels).
  map(pane) {
    const {dim, spacing} = this.grid;
    const {u, v} = pane.plane;
    const {width, height} = pane;
    const size = dim.map((count, axis) => count * spacing[axis]);
    const all = Math.min(width / size[u], height / size[v]);
    const scale = this.field
      ? Math.max(all, Math.min(width, height) / this.field) : all;
    const centre = size.map((one) => one / 2);
    for (const [axis, side] of [[u, width], [v, height]]) {
      const half = side / scale / 2;
      if (half * 2 < size[axis]) {
        centre[axis] = clamp(this.centre[axis], half, size[axis] - half);
      }
    }
    // Patient right is on the left; the nose of a sagittal slice as well.
    const flip = u === 1 || this.options.radiological ? -1 : 1;
    return {
      scale, all, centre, flip,
      toScreen: (a, b) => [
        width / 2 + flip * scale * (a - centre[u]),
        height / 2 - scale * (b - centre[v])],
      toMm: (x, y) => [
        (x - width / 2) * flip / scale + centre[u],
        centre[v] - (y - height / 2) / scale],
    };
  }

  // Voxel units under a point of a pane: the centre of voxel 0 is 0.
  point(pane, x, y) {
    const {plane} = pane;
    const [a, b] = this.map(pane).toMm(x, y);
    const at = [...this.position];
    at[plane.u] = a / this.grid.spacing[plane.u] - 0.5;
    at[plane.v] = b / this.grid.spacing[plane.v] - 0.5;
    return at;
  }

  // Where a voxel's centre is on the page (for tests and other tools).
  onPage(ijk, number = 0) {
    const pane = this.panes[number];
    const mm = this.millimetres(ijk);
    const [x, y] = this.map(pane).toScreen(mm[pane.plane.u], mm[pane.plane.v]);
    const box = pane.canvas.getBoundingClientRect();
    return [box.x + x, box.y + y];
  }

  // Enlarges about a point of a pane.
  zoom(pane, x, y, factor) {
    const {plane, width, height} = pane;
    const before = this.map(pane);
    const [a, b] = before.toMm(x, y);
    const scale = before.scale * factor;
    if (scale <= before.all * 1.001) {
      this.setField(null);
      return;
    }
    this.field = Math.max(Math.min(width, height) / scale, 4);
    const after = Math.min(width, height) / this.field;
    this.centre[plane.u] = a - (x - width / 2) * before.flip / after;
    this.centre[plane.v] = b + (y - height / 2) / after;
    this.hooks.onField(this.field);
    this.later();
  }

  pan(pane, dx, dy) {
    if (!this.field) return;
    const {scale, flip, centre} = this.map(pane);
    this.centre[pane.plane.u] = centre[pane.plane.u] - dx * flip / scale;
    this.centre[pane.plane.v] = centre[pane.plane.v] + dy / scale;
    this.later();
  }

  resize() {
    const ratio = globalThis.devicePixelRatio || 1;
    for (const pane of this.panes) {
      const box = pane.box.getBoundingClientRect();
      pane.width = box.width;
      pane.height = box.height;
      pane.canvas.width = Math.max(1, Math.round(box.width * ratio));
      pane.canvas.height = Math.max(1, Math.round(box.height * ratio));
    }
    if (this.grid) this.refresh();
  }

  later() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => this.refresh());
  }

  refresh() {
    cancelAnimationFrame(this.waiting);
    this.waiting = 0;
    if (!this.image) return;
    if (!this.table) {
      this.table = greys(...this.window, this.image);
      this.panes.forEach((pane) => { pane.key += '*'; });
    }
    for (const pane of this.panes) if (pane.width > 8) this.draw(pane);
  }

  draw(pane) {
    const {context, canvas, width, height, sheet} = pane;
    const {spacing} = this.grid;
    const {u, v, w} = pane.plane;
    const shown = this.slices(pane);
    this.fill(pane, shown);
    const map = this.map(pane);
    const ratio = canvas.width / width;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = '#000';
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.setTransform(ratio, 0, 0, canvas.height / height, 0, 0);
    const fine = map.scale * ratio * Math.min(spacing[u], spacing[v]);
    context.imageSmoothingEnabled = this.options.smooth || fine < 1;
    context.imageSmoothingQuality = 'medium';
    const [left, top] = map.toScreen(
      0, this.grid.dim[v] * spacing[v]);
    context.save();
    context.translate(left, top);
    context.scale(map.flip, 1);
    context.drawImage(sheet, 0, 0,
      sheet.width * spacing[u] * map.scale,
      sheet.height * spacing[v] * map.scale);
    context.restore();
    const pixels = this.overlay.shown && this.labels
      ? silhouette(this.labels, pane.plane, shown, this.visible()) : new Map();
    drawOutlines(this, pane, map, pixels);
    annotate(this, pane, map, shown, pixels);
    canvas.setAttribute('aria-label', `${pane.plane.name} slice ` +
      `${this.position[w] + 1} of ${this.grid.dim[w]}`);
  }

  slices(pane) {
    const {w} = pane.plane;
    const count = slabCount(this.slab, this.grid.spacing[w]);
    return slabRange(this.position[w], count, this.grid.dim[w]);
  }

  // Cuts and shades only what has changed.
  fill(pane, [first, last]) {
    const key = `${first}-${last}`;
    if (pane.key === key) return;
    if (pane.key !== `${key}*` || pane.cutOf !== this.image) {
      cut(this.image.raw, this.grid.dim, pane.plane, [first, last],
        pane.slice);
      pane.cutOf = this.image;
    }
    shade(pane.slice, this.table, pane.pixels);
    pane.draft.putImageData(pane.bitmap, 0, 0);
    pane.key = key;
  }

  // The current one last, so that its outline is on top.
  visible() {
    const {current, items, labels} = this;
    const numbers = labels.items().filter((one) => items.has(one) &&
      one !== current && !labels.hides(one, current));
    return items.has(current) ? [...numbers, current] : numbers;
  }

  // The verdict that the images show: where it must not tell of another
  // reading, that of the current candidate only.
  verdict(number) {
    return this.options.quiet && number !== this.current ? 'other'
      : this.items.get(number)?.verdict;
  }

  // Letters at the left, right, bottom and top of a pane.
  sides(pane, map) {
    const {u, v} = pane.plane;
    const [low, high] = map.flip > 0 ? [0, 1] : [1, 0];
    return [SIDES[u][low], SIDES[u][high], SIDES[v][0], SIDES[v][1]];
  }
}
