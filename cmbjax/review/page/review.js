// One case as the page knows it, and the queue of what the reader has done.
//
// Rule: an action shows at once and is sent in order, one at a time, based on
// the last revision; what the server answers is the truth. What it has not
// answered stays in the queue (and in the browser's storage) and is tried
// again.

import {Refused, bytes, get, post} from './api.js';
import {Labels} from './labels.js';
import {called} from './names.js';
import {volumeOf} from './planes.js';

const WAITS_MS = [500, 1000, 2000, 4000, 8000];

export class Review extends EventTarget {
  constructor(session) {
    super();
    this.session = session;
    this.queue = [];
    this.failure = null;
    this.tries = 0;
  }

  say(name, detail) { this.dispatchEvent(new CustomEvent(name, {detail})); }

  async open(number, progress) {
    const meta = await get(`api/cases/${number}`);
    const [first] = meta.sequences;
    const [raw, numbers] = await Promise.all([
      bytes(`api/cases/${number}/voxels/${first.name}`, {progress}),
      bytes(`api/cases/${number}/labels`)]);
    this.number = number;
    this.meta = meta;
    this.images = new Map([[first.name, new Int16Array(raw)]]);
    this.take(meta, new Uint16Array(numbers));
    this.queue = [];
    this.failure = null;
    this.restore();
    return meta;
  }

  take(meta, numbers) {
    this.labels = new Labels(this.meta.dim, numbers);
    this.items = new Map(meta.items.map((item) => [item.item, item]));
    meta.items.forEach((item) => this.lay(item));
    this.truth = new Map(meta.items.map((item) =>
      [item.item, JSON.stringify(item)]));
    Object.assign(this, {
      rev: meta.rev, status: meta.status, note: meta.note, read: meta.read,
      savedNote: meta.note, savedStatus: meta.status,
      hidden: meta.hidden, canUndo: meta.can_undo, canRedo: meta.can_redo,
      firstUnread: meta.first_unread});
  }

  lay({item, outline, runs}) {
    if (runs) this.labels.lay(item, outline, runs);
  }

  // The state again, after another tab or a lost answer.
  async reload() {
    const [meta, numbers] = await Promise.all([
      get(`api/cases/${this.number}`),
      bytes(`api/cases/${this.number}/labels`)]);
    const {sequences} = this.meta; // with the scales known by now
    Object.assign(this.meta, meta, {sequences});
    this.take(meta, new Uint16Array(numbers));
    this.queue.forEach((entry) => entry.local?.());
    this.say('reload');
  }

  // Another tab has acted; what waits here finds out by itself.
  follow({number, rev}) {
    if (number === this.number && rev > this.rev && this.saved) {
      this.reload().catch(() => {}); // its next action finds out
    }
  }

  // Voxels of a sequence; those after the first are read when first shown,
  // and only then is their scale known.
  async image(sequence) {
    const {name} = sequence;
    const {images} = this; // of this case, also when it comes late
    if (!images.has(name)) {
      const number = (text) => Number(text);
      const raw = await bytes(`api/cases/${this.number}/voxels/${name}`, {
        headers: (found) => {
          sequence.slope ??= number(found.get('x-cmb-slope'));
          sequence.intercept ??= number(found.get('x-cmb-intercept'));
          sequence.window ??=
            found.get('x-cmb-window').split(' ').map(number);
        }});
      images.set(name, new Int16Array(raw));
    }
    return images.get(name);
  }

  get unread() {
    return [...this.items.values()].filter((item) => !item.verdict);
  }

  // Size at once, also for strokes that are not sent yet.
  measure(number) {
    const item = this.items.get(number);
    const {length} = this.labels.voxels(number);
    if (!item || length === item.voxels) return;
    item.voxels = length;
    item.volume_mm3 = length * volumeOf(this.meta.affine);
    item.diameter_mm = Math.cbrt(6 * item.volume_mm3 / Math.PI);
  }

  get saved() { return !this.queue.length && !this.sending; }

  get state() {
    if (this.failure) return 'failed';
    return this.saved ? 'saved' : 'saving';
  }

  // A field of a candidate: shows at once, then goes to the server.
  set(number, event, value, more = {}) {
    const body = {event, item: number, value, ...more};
    return this.act(body, () => {
      const item = this.items.get(number);
      if (!item) return;
      item[event] = value;
      if (event !== 'verdict') return;
      item.locked = value === 'reject';
      item.mimic = value === 'reject' ? more.mimic ?? null : null;
      if (value !== 'accept') item.certainty = null;
    });
  }

  // Adds an action to the queue. Resolves with the answer, or null when it
  // was refused (which has been said by then).
  act(body, local = null) {
    return new Promise((done) => {
      this.queue.push({body, local, done, sent: false});
      local?.();
      this.keep();
      this.say('change', {items: [body.item]});
      this.pump();
    });
  }

  paint(stroke) {
    const {item, set, clear} = stroke;
    this.act({event: 'edit', ...stroke}, () => {
      for (const index of set) this.labels.set(index, item, item);
      for (const index of clear) {
        if (this.labels.get(index, item) === item) {
          this.labels.set(index, 0, item);
        }
      }
    });
  }

  get undoable() { return this.canUndo || this.queue.length > 0; }
  get redoable() { return this.canRedo && !this.queue.length; }

  // Everything that waits, now. Resolves when all of it is saved.
  async flush() {
    this.retry();
    while (!this.saved && !this.failure) {
      await new Promise((done) => setTimeout(done, 10));
    }
    return this.saved;
  }

  retry() {
    clearTimeout(this.timer);
    if (this.failure) this.tries = 0;
    this.pump();
  }

  async pump() {
    clearTimeout(this.timer);
    if (this.sending || !this.queue.length) return;
    const [entry] = this.queue;
    this.sending = true;
    this.say('change', {items: []});
    try {
      await this.send(entry);
      this.tries = 0;
      this.failure = null;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.failure = error;
      const pause = WAITS_MS[Math.min(this.tries++, WAITS_MS.length - 1)];
      this.timer = setTimeout(() => this.pump(), pause);
    } finally {
      this.sending = false;
    }
    this.keep();
    this.say('change', {items: []});
    if (!this.failure) this.pump();
  }

  async send(entry) {
    const again = entry.sent;
    entry.sent = true;
    entry.basis = this.rev;
    this.keep();
    try {
      const answer = await post(`api/cases/${this.number}/events`,
        {...entry.body, rev: this.rev});
      this.accept(entry, answer);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 409) return this.stale(entry, again);
      if ([400, 404, 411, 413, 415].includes(error.status)) {
        return this.drop(entry, error);
      }
      throw error; // away, full, restarting or a lost token: later again
    }
  }

  accept(entry, answer) {
    this.queue.shift();
    this.rev = answer.rev;
    for (const item of answer.items) {
      this.items.set(item.item, item);
      this.lay(item);
      this.truth.set(item.item, JSON.stringify(item));
    }
    for (const number of answer.removed || []) {
      this.items.delete(number);
      this.truth.delete(number);
    }
    this.labels.apply(answer.labels || []); // with what it did not take
    const {status, read, hidden, note} = answer.case;
    Object.assign(this, {savedNote: note, savedStatus: status});
    Object.assign(this, {status, read, hidden, note, canUndo: answer.can_undo,
      canRedo: answer.can_redo, firstUnread: answer.first_unread});
    this.queue.forEach((one) => one.local?.());
    this.say('change', {items: answer.items.map((item) => item.item)});
    this.say('done');
    entry.done(answer);
  }

  // What the server last said, without what waits here.
  get known() {
    return JSON.stringify([[...this.truth.entries()].sort(([a], [b]) => a - b),
      this.savedNote, this.savedStatus, this.hidden]);
  }

  // Another tab wrote; or the server was started again, which it notes in
  // its log as well; or our own action was written and its answer lost.
  async stale(entry, again) {
    const before = this.known;
    this.queue.shift();
    await this.reload();
    const same = this.known === before;
    const written = again && !same && applied(entry.body, this);
    const isStroke = entry.body.event === 'edit';
    if (isStroke ? !written : again && same) {
      entry.sent = false;
      this.queue.unshift(entry);
      entry.local?.();
      if (!again) {
        this.say('notice', {text: 'Another tab has changed this case: its ' +
          'state was loaded, and your strokes were added to it.'});
      }
      return;
    }
    if (!written) {
      this.say('notice', {text: 'Another tab has changed this case: its ' +
        'state was loaded. Your last action was not saved; please repeat it ' +
        `(${told(entry.body)}).`});
    }
    this.say('change', {items: []});
    entry.done(written ? {items: []} : null);
  }

  async drop(entry, error) {
    this.queue.shift();
    await this.reload();
    this.say('notice', {text: error.message});
    entry.done(null);
  }

  // What is not saved outlives the page, for the next opening of this case.
  get shelf() {
    return `cmbjax-unsent:${this.session.rater}:${this.meta.name}`;
  }

  keep() {
    try {
      if (!this.queue.length) localStorage.removeItem(this.shelf);
      else {
        localStorage.setItem(this.shelf, JSON.stringify(
          this.queue.map(({body, basis}) => ({body, basis}))));
      }
    } catch { /* storage is full or off: the queue in memory is still there */ }
  }

  restore() {
    let found = [];
    try {
      found = JSON.parse(localStorage.getItem(this.shelf) || '[]');
    } catch { /* unreadable: nothing to bring back */ }
    if (!found.length) return;
    // The first may have been written before its answer was lost.
    const [{body, basis}] = found;
    if (basis !== undefined && this.rev > basis && applied(body, this)) {
      found.shift();
    }
    this.leftover = found.map((one) => one.body);
    localStorage.removeItem(this.shelf);
  }
}

// Whether a state shows what an action wanted.
function applied(body, {items, labels}) {
  const item = items.get(body.item);
  switch (body.event) {
    case 'verdict': case 'certainty': case 'mimic': case 'rating':
    case 'region': case 'comment':
      return item?.[body.event] === body.value;
    case 'edit':
      return body.set.every((one) => labels.get(one, body.item) === body.item) &&
        body.clear.every((one) => labels.get(one, body.item) !== body.item);
    case 'move': return String(item?.ijk) === String(body.ijk);
    case 'remove': return !item;
    case 'add': return [...items.values()].some((one) =>
      String(one.ijk) === String(body.ijk) && one.origin !== 'model');
    default: return true; // undo, done, grow: the state has changed
  }
}

export function told(body) {
  const what = {
    accept: 'accept', reject: 'reject', unsure: 'unsure'}[body.value] ||
    (body.event === 'verdict' ? 'clear the verdict' : body.event);
  return body.item ? `${what}, ${called(body.item)}` : what;
}
