// The candidate that is being read: which one, its verdict, and what follows.
//
// Rule: a verdict leads on to the next unread candidate; its certainty or kind
// can still be said, of the last one judged, until the reader chooses another.

import {banner, speak} from './dom.js';
import {stateOf} from './list.js';
import {nameOf} from './names.js';
import {indexOf} from './planes.js';

const TWICE_MS = 150; // quicker than an eye
const AWAY_MS = 120000; // a reader who is away reads nothing

export class Reading {
  constructor(app) {
    this.app = app;
    this.begin();
  }

  // A new case: nothing has been chosen.
  begin() {
    this.current = null;
    this.judged = null; // whose certainty or kind is being asked
    this.asking = null; // the same, while the verdict waits for it
    this.rating = false; // the next digit is a rating
  }

  get item() { return this.app.review.items.get(this.current) || null; }

  go(number, {field = this.app.viewer.field, quiet = false} = {}) {
    const {viewer, list, review} = this.app;
    const item = review.items.get(number);
    if (!item) return;
    if (number !== this.current) {
      this.since = performance.now();
      this.ms = 0;
      this.asking = null;
    }
    this.current = number;
    viewer.jump(item.ijk);
    if (field) viewer.setField(field, item.ijk);
    this.app.show();
    list.reveal();
    this.app.remember();
    if (!quiet) speak(`${nameOf(item)}, ${stateOf(item)}`);
  }

  // The reader's own choice: questions about another one are over.
  choose(number) {
    this.app.settle();
    this.judged = null;
    this.go(number);
  }

  step(by) {
    const next = this.app.list.beside(this.current, by);
    if (next !== undefined) this.choose(next);
    else speak(by > 0 ? 'This is the last candidate.'
      : 'This is the first candidate.');
  }

  goOn() {
    this.asking = null;
    const next = this.app.list.unread(this.current);
    if (next !== undefined && next !== this.current) this.go(next);
  }

  // Back to the current one, wherever the reader has looked meanwhile.
  home() {
    const {item, app: {viewer}} = this;
    if (!item) { speak('No candidate is chosen.'); return; }
    viewer.jump(item.ijk);
    if (viewer.field) viewer.setField(viewer.field, item.ijk);
    speak(`Back at ${nameOf(item)}.`);
  }

  // Time on the current candidate, with the page in sight.
  spend() {
    const now = performance.now();
    this.ms = (this.ms || 0) + Math.min(now - (this.since ?? now), AWAY_MS);
    this.since = now;
    return Math.round(this.ms);
  }

  verdict(value) {
    const {item, app: {review, prefs}} = this;
    if (!item) { this.step(1); return; }
    this.app.settle();
    if (this.twice(value)) return;
    const ms = this.spend();
    if (item.verdict !== value) {
      review.set(item.item, 'verdict', value, {ms});
      this.ms = 0;
    }
    speak(`${nameOf(item)} ${value ? stateOf(item) : 'cleared'}`);
    this.judged = value ? item.item : null;
    this.asking = null;
    if (value && prefs.ask && value !== 'unsure') this.asking = item.item;
    else if (value && prefs.advance) this.goOn();
    this.ruled = {value, at: performance.now(), on: this.current};
    this.app.show();
    if (!review.hidden && !review.unread.length) {
      speak('All candidates are read.');
    }
  }

  // A key that bounces, or two taps in a hurry: the next candidate, which
  // nobody can have looked at yet, gets no verdict by it.
  twice(value) {
    const {ruled} = this;
    const again = Boolean(value) && ruled?.value === value &&
      ruled.on === this.current && this.current !== this.judged &&
      performance.now() - ruled.at < TWICE_MS;
    if (again) speak('Pressed twice in a moment: counted once.');
    return again;
  }

  // A digit while a verdict waits for its certainty or kind, or after the key
  // of ratings. Whether it was taken.
  digit(digit) {
    if (this.asking && /^[1-8]$/.test(digit)) this.answer(Number(digit));
    else if (this.rating && digit) this.rate(Number(digit) || 10);
    else return false;
    return true;
  }

  // The certainty or kind number so much, of the last one judged.
  answer(place) {
    const item = this.app.review.items.get(this.judged) || this.item;
    if (!item) return;
    const {field, values} = this.app.panel.asks(item);
    if (values[place - 1]) this.toggle(item.item, field, values[place - 1]);
  }

  // The same value once more takes it back.
  toggle(number, field, value) {
    const item = this.app.review.items.get(number);
    if (!item) return;
    const same = item[field] === value;
    this.app.review.set(number, field, same ? null : value);
    if (this.asking && !same) this.goOn();
    this.app.show();
  }

  rate(value) {
    this.rating = false;
    if (this.item) this.set('rating', this.item.rating === value ? null : value);
  }

  set(field, value) {
    if (this.item && this.item[field] !== value) {
      this.app.review.set(this.current, field, value);
    }
  }

  async add() {
    const {review, viewer} = this.app;
    if (this.busy) return;
    const here = review.labels.get(indexOf(viewer.position, review.meta.dim),
      this.current) || this.pointAt(viewer.position);
    if (review.items.has(here)) {
      banner('paint', 'The crosshair is on a candidate already: it is chosen ' +
        'now.');
      if (this.current !== here) this.choose(here);
      return;
    }
    const before = new Set(review.items.keys());
    const answer = await this.alone({event: 'add', ijk: viewer.position,
      grow: true});
    const made = answer?.items.find((item) => !before.has(item.item));
    if (!made) return;
    this.judged = made.item;
    this.go(made.item);
  }

  // A candidate without outline has its point all the same.
  pointAt(position) {
    const {items, labels} = this.app.review;
    return [...items.values()].find((item) => !item.voxels &&
      String(item.ijk) === String(position) &&
      !labels.hides(item.item, this.current))?.item;
  }

  async remove() {
    const {item, app: {list}} = this;
    if (!item || this.busy) return;
    if (item.origin === 'model') {
      banner('paint', 'Only lesions that you added can be removed; reject ' +
        'this one instead.');
      return;
    }
    const next = list.beside(this.current, 1) ?? list.beside(this.current, -1);
    const answer = await this.alone({event: 'remove', item: item.item});
    if (answer && next !== undefined) this.go(next);
  }

  // An action that must not be asked for again before it is answered.
  async alone(body) {
    this.busy = true;
    try {
      return await this.app.review.act(body);
    } finally { this.busy = false; }
  }

  async move() {
    if (!this.item) return;
    const answer = await this.app.review.act({event: 'move',
      item: this.current, ijk: this.app.viewer.position});
    if (answer) speak('Moved to the crosshair.');
  }

  // One after the other, however fast the key is pressed: 'undo' or 'redo'.
  back(which) {
    this.app.settle();
    this.turn = (this.turn || Promise.resolve()).then(() =>
      this.oneBack(which));
  }

  async oneBack(which) {
    const {review, viewer} = this.app;
    if (!(which === 'undo' ? review.undoable : review.redoable)) {
      speak(`Nothing to ${which}.`);
      return;
    }
    const answer = await review.act({event: which});
    if (!answer) return;
    this.judged = null;
    viewer.refresh();
    if (review.items.has(answer.item)) this.go(answer.item, {quiet: true});
    else if (!this.item) this.step(1);
    speak(which === 'undo' ? 'Undone.' : 'Done again.');
  }
}
