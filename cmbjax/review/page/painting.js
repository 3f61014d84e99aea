// The tools that draw: which one is in hand, its size, and what it does.

import {$, banner, press, speak} from './dom.js';
import {Brush, SIZES_MM} from './brush.js';
import {bracketed} from './keys.js';
import {clamp, nearest} from './planes.js';

const DRAW = ['brush', 'eraser', 'grow'];
const GROW_MM = 6; // a microbleed is at most 10 mm across
const choose = () => 'Choose a candidate first, or add a lesion' +
  `${bracketed('add')}.`;

export class Painting {
  constructor(app) {
    this.app = app;
    $('sphere').checked = app.prefs.sphere;
    $('sphere').addEventListener('change', () => {
      this.brush.sphere = $('sphere').checked;
      app.prefer({sphere: this.brush.sphere});
    });
    $('dark').addEventListener('change', () => this.darkest(true));
    $('darkest').addEventListener('input', () => this.darkest(false));
  }

  // A new case.
  begin({meta, labels}) {
    const {prefs, judged} = this.app;
    this.brush = new Brush(meta, labels);
    Object.assign(this.brush, {mm: prefs.brush, sphere: prefs.sphere,
      image: judged.raw});
    this.app.viewer.setTool(null, this.brush.mm);
  }

  // Takes a tool, or lays it aside: drawing is for single slices of the image
  // that is judged.
  take(name) {
    const {app, brush} = this;
    const {viewer} = app;
    if (DRAW.includes(name)) {
      if (viewer.slab && name !== 'grow') app.setSlab(false);
      if (app.sequence !== app.review.meta.sequences[0]) {
        app.sequences.show(0);
      }
      if (!app.shows.overlay) app.actions.overlay();
      banner('paint', app.reading.item ? '' : choose());
    }
    viewer.setTool(name, brush.mm);
    for (const one of [...DRAW, 'window']) press($(one), one === name);
    $('brush-bar').hidden = name !== 'brush' && name !== 'eraser';
    $('brush-size').textContent = `${brush.mm} mm`;
  }

  toggle(name) { this.take(this.app.viewer.tool === name ? null : name); }

  resize(by) {
    const at = SIZES_MM.indexOf(this.brush.mm);
    const mm = SIZES_MM[clamp(at + by, 0, SIZES_MM.length - 1)];
    this.brush.mm = mm;
    this.app.prefer({brush: mm});
    this.app.viewer.setTool(this.app.viewer.tool, mm);
    $('brush-size').textContent = `${mm} mm`;
  }

  // Why the current candidate cannot be drawn on; '' when it can.
  whyNot() {
    const {item} = this.app.reading;
    if (!item) return choose();
    return item.locked ? 'A rejected candidate is locked: clear its verdict ' +
      `first${bracketed('clear')}.` : '';
  }

  // phase: 'begin' (answers whether it may), 'move' or 'end'.
  stroke(phase, point, plane, erase) {
    const {brush, app: {reading, review}} = this;
    if (phase === 'begin') {
      const why = this.whyNot();
      banner('paint', why);
      if (why) return false;
      brush.begin({item: reading.current, erase, free: (number) =>
        review.items.get(number)?.verdict === 'reject'});
    }
    if (!brush?.stroke) return false;
    if (phase === 'end') {
      const stroke = brush.end();
      if (stroke) review.paint(stroke);
    } else brush.move(point, plane);
    return true;
  }

  async growAt(point) {
    const {review, reading} = this.app;
    const why = this.whyNot();
    if (why) { banner('paint', why); return; }
    const ijk = nearest(point, review.meta.dim);
    const answer = await review.act({event: 'grow', item: reading.current, ijk,
      radius_mm: GROW_MM});
    if (answer) speak(`Grown to ${reading.item?.voxels ?? 0} voxels.`);
  }

  // The brush takes only voxels at or below a value of the image.
  darkest(fresh) {
    const on = $('dark').checked;
    const slider = $('darkest');
    slider.hidden = !on;
    const {judged, firstWindow: [low, high]} = this.app;
    if (on && fresh) {
      Object.assign(slider, {min: low, max: high, step: (high - low) / 200});
      slider.value = (low + high) / 2;
    }
    const value = Number(slider.value);
    const {slope, intercept} = judged;
    this.brush.darkest = on ? (value - intercept) / slope : null;
    $('darkest-value').textContent = on
      ? `≤ ${Number(value.toPrecision(3))}` : '';
  }
}
