// Search of the whole scan: slices with a slab, and what has been seen.
//
// Seen is a block of 8 mm that was on the screen, in the slab and in the
// visible part of the pane of the slices, for at least one tick.

import {bytes} from './api.js';
import {$, onClick, press, speak} from './dom.js';
import {PLANES, slabCount, slabRange, strides} from './planes.js';

const BLOCK_MM = 8;
const TICK_MS = 120;
const PLAY_MS = 260;

export class Sweep {
  constructor(app) {
    this.app = app;
    this.on = false;
    onClick('sweep-unseen', () => this.unseen());
    $('coverage').addEventListener('pointerdown', (event) => {
      const box = $('coverage').getBoundingClientRect();
      const size = this.app.viewer.grid.dim[this.plane.w];
      this.to(Math.floor((1 - (event.clientY - box.y) / box.height) * size));
    });
  }

  // A new case: nothing has been seen of it.
  reset() {
    if (this.on) this.toggle();
    this.seen = null;
  }

  // Across the slices as they were measured, which need not be axial.
  get plane() {
    const axis = this.app.review.meta.slab_axis;
    return PLANES.find((plane) => plane.w === axis) || PLANES[0];
  }

  get number() { return PLANES.indexOf(this.plane); }

  toggle() {
    const {viewer} = this.app;
    this.on = !this.on;
    press($('sweep'), this.on);
    $('sweep-bar').hidden = !this.on;
    $('coverage').hidden = !this.on;
    viewer.setOptions({gutter: this.on ? this.number : null});
    clearInterval(this.ticker);
    clearInterval(this.player);
    press($('sweep-play'), false);
    this.player = null;
    if (!this.on) {
      this.report();
      if (this.lentSlab) this.app.setSlab(false);
      return;
    }
    if (!this.seen) this.prepare();
    this.lentSlab = !viewer.slab;
    if (this.lentSlab) this.app.setSlab(true);
    viewer.setField(null);
    viewer.active = this.number;
    this.since = performance.now();
    this.last = '';
    this.ticker = setInterval(() => this.tick(), TICK_MS);
    document.activeElement?.blur(); // to where keys are heard
    this.show();
    speak('Sweep. Arrow keys step through the slices.');
  }

  // Blocks that hold anything but air, until the brain is known.
  prepare() {
    const {dim, spacing} = this.app.viewer.grid;
    const {raw, slope, intercept} = this.app.judged;
    const [low, high] = this.app.firstWindow;
    const limit = (low + 0.12 * (high - low) - intercept) / slope;
    const {u, v, w} = this.plane;
    const per = [u, v].map((axis) =>
      Math.max(1, Math.round(BLOCK_MM / spacing[axis])));
    const across = [Math.ceil(dim[u] / per[0]), Math.ceil(dim[v] / per[1])];
    const seen = new Uint8Array(across[0] * across[1] * dim[w]);
    Object.assign(this, {per, across, seen, ms: 0});
    this.look('head', this.blocks(raw, limit));
    this.narrow();
  }

  // What has to be seen: blocks with 1.
  look(name, blocks) {
    this.name = name;
    this.wanted = blocks;
    this.whole = blocks.reduce((sum, one) => sum + one, 0);
  }

  // The server finds the brain meanwhile; where there is none, the head stays.
  async narrow() {
    const {seen, app} = this;
    let mask;
    try {
      mask = await bytes(`api/cases/${app.review.number}/brain`);
    } catch { return; }
    if (seen !== this.seen) return; // another case
    const blocks = this.blocks(new Uint8Array(mask), 0);
    if (!blocks.includes(1)) return;
    this.look('brain', blocks);
    this.show();
  }

  // Blocks whose mean is above a limit: 1.
  blocks(raw, limit) {
    const {dim} = this.app.viewer.grid;
    const {u, v, w} = this.plane;
    const {per, across} = this;
    const step = strides(dim);
    const found = new Uint8Array(across[0] * across[1] * dim[w]);
    for (let z = 0; z < dim[w]; z++) {
      for (let b = 0; b < across[1]; b++) {
        for (let a = 0; a < across[0]; a++) {
          let [sum, count] = [0, 0];
          for (let y = b * per[1]; y < Math.min((b + 1) * per[1], dim[v]);
            y += 3) {
            const row = y * step[v] + z * step[w];
            for (let x = a * per[0]; x < Math.min((a + 1) * per[0], dim[u]);
              x += 3) { sum += raw[row + x * step[u]]; count++; }
          }
          found[a + across[0] * (b + across[1] * z)] = sum > limit * count;
        }
      }
    }
    return found;
  }

  tick() {
    if (document.visibilityState !== 'visible') return;
    const {viewer} = this.app;
    const {u, v, w} = this.plane;
    const here = `${viewer.position[w]} ${viewer.field} ${viewer.slab}`;
    const stood = here === this.last;
    this.last = here;
    if (!stood) return;
    this.ms += TICK_MS;
    const {dim, spacing} = viewer.grid;
    const [first, last] = slabRange(viewer.position[w],
      slabCount(viewer.slab, spacing[w]), dim[w]);
    const [x0, x1, y0, y1] = this.sight(viewer.panes[this.number]);
    let fresh = 0;
    for (let b = 0; b < this.across[1]; b++) {
      const y = (b + 0.5) * this.per[1] * spacing[v];
      if (y < y0 || y > y1) continue;
      for (let a = 0; a < this.across[0]; a++) {
        const x = (a + 0.5) * this.per[0] * spacing[u];
        if (x < x0 || x > x1) continue;
        for (let z = first; z <= last; z++) {
          const at = a + this.across[0] * (b + this.across[1] * z);
          if (!this.seen[at]) { this.seen[at] = 1; fresh++; }
        }
      }
    }
    if (fresh) this.show();
  }

  // The visible mm of a pane: across from, to, up from, to.
  sight(pane) {
    const map = this.app.viewer.map(pane);
    const [ax, ay] = map.toMm(0, 0);
    const [bx, by] = map.toMm(pane.width, pane.height);
    return [Math.min(ax, bx), Math.max(ax, bx), Math.min(ay, by),
      Math.max(ay, by)];
  }

  share() {
    let count = 0;
    for (let i = 0; i < this.wanted.length; i++) {
      count += this.wanted[i] & this.seen[i];
    }
    return this.whole ? count / this.whole : 1;
  }

  slices() {
    const size = this.across[0] * this.across[1];
    return Array.from({length: this.wanted.length / size}, (_, z) => {
      let [have, seen] = [0, 0];
      for (let i = z * size; i < (z + 1) * size; i++) {
        have += this.wanted[i];
        seen += this.wanted[i] & this.seen[i];
      }
      return have ? seen / have : null;
    });
  }

  show() {
    if (!this.on) return;
    const share = Math.round(100 * this.share());
    $('sweep-share').textContent = `${share} % of the ${this.name} seen`;
    $('sweep-meter').style.width = `${share}%`;
    this.draw();
  }

  draw() {
    const {viewer} = this.app;
    const canvas = $('coverage');
    const {w} = this.plane;
    const box = viewer.panes[this.number].box.getBoundingClientRect();
    const stage = $('stage').getBoundingClientRect();
    canvas.style.left = `${box.right - stage.x - 20}px`;
    canvas.style.top = `${box.y - stage.y + 34}px`;
    canvas.style.height = `${box.height - 68}px`;
    const slices = this.slices();
    canvas.width = 12;
    canvas.height = Math.max(1, canvas.clientHeight);
    const context = canvas.getContext('2d');
    const step = canvas.height / slices.length;
    slices.forEach((share, z) => {
      const y = canvas.height - (z + 1) * step;
      context.fillStyle = share === null ? '#16191d' : '#39414b';
      context.fillRect(2, y, 8, step + 0.5);
      if (!share) return;
      context.fillStyle = share > 0.97 ? '#5fd4f4' : '#e6b95c';
      context.fillRect(2, y, 8 * share, step + 0.5);
    });
    const [first, last] = slabRange(viewer.position[w],
      slabCount(viewer.slab, viewer.grid.spacing[w]), slices.length);
    context.strokeStyle = '#fff';
    context.strokeRect(0.5, canvas.height - (last + 1) * step + 0.5, 11,
      Math.max(3, (last - first + 1) * step - 1));
  }

  play() {
    if (!this.on) return;
    const running = Boolean(this.player);
    clearInterval(this.player);
    this.player = running ? null : setInterval(() => {
      const {viewer} = this.app;
      const {w} = this.plane;
      if (viewer.position[w] + 1 >= viewer.grid.dim[w]) this.play();
      else viewer.step(1, this.number);
    }, PLAY_MS);
    press($('sweep-play'), !running);
  }

  // The middle of the next stretch of slices that are not seen.
  unseen() {
    const slices = this.slices();
    const {position, slab, grid} = this.app.viewer;
    const {w} = this.plane;
    const open = slices.map((share, z) => [share, z])
      .filter(([share]) => share !== null && share < 0.97)
      .map(([, z]) => z);
    if (!open.length) {
      speak('All slices are seen.');
      return;
    }
    const next = open.find((z) => z > position[w]) ?? open[0];
    const half = (slabCount(slab, grid.spacing[w]) - 1) / 2;
    this.to(Math.min(next + half, open.at(-1)));
  }

  to(z) {
    const at = [...this.app.viewer.position];
    at[this.plane.w] = z;
    this.app.viewer.jump(at);
  }

  moved() { if (this.on) this.draw(); }

  // What was seen goes to the log.
  report() {
    if (!this.ms) return;
    const slices = this.slices().filter((share) => share > 0.5).length;
    this.app.review.act({event: 'view', what: 'sweep', slices,
      ms: Math.round(this.ms)});
    this.ms = 0;
  }
}
