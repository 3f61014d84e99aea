// The page: opens cases, shows the current candidate, and lets the parts
// speak with one another. What keys and buttons do stands in actions.js.

import {Brush, SIZES_MM} from './brush.js';
import {Dialogs} from './dialogs.js';
import {Header} from './header.js';
import {List, stateOf} from './list.js';
import {Panel} from './panel.js';
import {Review, told} from './review.js';
import {Sequences} from './sequences.js';
import {Sweep} from './sweep.js';
import {get} from './api.js';
import {$, banner, press, speak} from './dom.js';
import {CHOOSE, LOCKED, actionsOf, bindButtons} from './actions.js';
import {fitPhones} from './phone.js';
import {bracketed, listenToKeys, printButtons, restore} from './keys.js';
import {nameAll, nameOf} from './names.js';
import {Viewer} from './viewer.js';
import {keepSettings, remember, remembered, watchTabs} from './memory.js';
import {readout, protocol} from './readout.js';

const PREFERENCES = {radiological: true, smooth: false, fill: false, advance: true, ask: false, slab: 10, brush: 3, sphere: true};
// Of what was kept, what is a preference and of its kind.
const known = (kept) => Object.fromEntries(Object.entries(PREFERENCES)
  .filter(([name, value]) => typeof kept?.[name] === typeof value)
  .map(([name]) => [name, kept[name]]));
const TWICE_MS = 150; // quicker than an eye
const AWAY_MS = 120000; // a reader who is away reads nothing

class App {
  constructor() {
    this.prefs = {...PREFERENCES, ...remembered('prefs')};
    this.current = null;
    this.judgedNow = null; // whose certainty or kind is being asked
    this.shows = {overlay: true, crosshair: true};
  }

  async start() {
    this.session = await get('api/session');
    const {settings} = this.session;
    Object.assign(this.prefs, known(settings?.prefs));
    this.keys = settings?.keys || {};
    const odd = restore(this.keys);
    if (odd.length) banner('keys', `Keys of your settings: ${odd.join(' ')}`);
    this.review = new Review(this.session);
    this.review.addEventListener('change', ({detail}) => this.heard(detail));
    this.review.addEventListener('notice', ({detail}) =>
      banner('notice', detail.text));
    this.review.addEventListener('reload', () => this.reloaded());
    this.viewer = new Viewer($('viewer'), {
      onMove: () => { this.sweep.moved(); readout(this); this.remember(); },
      onWindow: () => { readout(this); this.remember(); },
      onField: (mm) => { press($('field'), mm); this.remember(); },
      onGrow: (point) => this.actions.growAt(point),
      paint: (...stroke) => this.paint(...stroke),
    });
    this.panel = new Panel(this);
    this.panel.build(this.session);
    this.list = new List((number) => this.choosing(number),
      () => this.remember());
    this.sweep = new Sweep(this);
    this.header = new Header(this);
    this.sequences = new Sequences(this);
    this.dialogs = new Dialogs(this);
    this.actions = actionsOf(this);
    bindButtons(this);
    fitPhones();
    this.printKeys();
    listenToKeys(this.actions, {
      ratings: this.session.ratings, busy: (digit) => this.opening || this.awaited(digit)});
    new ResizeObserver(() => this.list.reveal()).observe($('rows'));
    $('about').textContent =
      `Reader ${this.session.rater} · cmbjax ${this.session.version}`;
    addEventListener('beforeunload', (event) => {
      this.settle();
      this.remember(true);
      if (!this.review.saved) event.preventDefault();
    });
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'hidden') {
        this.settle();
        this.review.hurry();
        this.spend();
      } else {
        this.since = performance.now();
        if (this.review.failure) this.review.retry();
      }
    });
    addEventListener('online', () => this.review.retry());
    watchTabs(this);
    await this.open(this.session.start || 0);
  }

  // The reader has bound other keys.
  bound(keys) {
    this.keys = keys;
    this.keepSettings();
    this.panel.build(this.session);
    this.printKeys();
    this.sequences.buttons();
    this.show();
  }

  printKeys() {
    printButtons();
    this.dialogs.keys();
  }

  keepSettings() {
    keepSettings({prefs: this.prefs, keys: this.keys});
  }

  // Keys and buttons are for a case that is there: none acts meanwhile.
  set opening(on) {
    this.underway = on;
    document.querySelector('main').inert = on;
    document.querySelector('header .acts').inert = on;
  }

  get opening() { return Boolean(this.underway); }

  async open(number) {
    if (this.opening) return;
    this.settle();
    this.opening = true;
    try {
      if (this.review.meta) {
        this.sweep.reset();
        this.remember(true);
        if (!await this.review.flush()) return;
      }
      $('loading').hidden = false;
      $('loaded').style.width = '0';
      document.body.removeAttribute('data-ready');
      await this.review.open(number, (share) => {
        $('loaded').style.width = `${Math.round(share * 100)}%`;
      });
      this.sweep.reset();
      await this.fill();
      this.arrived();
    } catch (error) {
      $('loading').hidden = Boolean(this.review.meta);
      banner('open', `The case could not be opened: ${error.message}`, {
        kind: 'bad', actions: [['Try again', () => {
          banner('open', '');
          this.open(number);
        }]]});
      if (!('status' in error)) throw error;
    } finally {
      this.opening = false;
      this.header.cases();
    }
  }

  // The viewer gets the case, where the reader has left it.
  async fill() {
    const {meta, labels, items} = this.review;
    const place = {...remembered(this.shelf), ...meta.place};
    this.sequence = meta.sequences[0];
    this.firstWindow = this.sequence.window;
    this.judged = {...this.sequence, raw: this.review.images.get(
      this.sequence.name)};
    this.viewer.load({dim: meta.dim, spacing: meta.spacing,
      affine: meta.affine, oblique_deg: meta.oblique_deg}, labels);
    this.brush = new Brush(meta, labels);
    Object.assign(this.brush, {mm: this.prefs.brush,
      sphere: this.prefs.sphere, image: this.judged.raw});
    this.windows = new Map();
    if (place.window) this.windows.set(this.sequence.name, place.window);
    this.viewer.setOptions({...this.prefs, crosshair: this.shows.crosshair,
      quiet: meta.quiet});
    this.viewer.setOverlay({shown: this.shows.overlay, fill: this.prefs.fill});
    this.viewer.setTool(null, this.brush.mm);
    await this.showSequence(0);
    this.list.offer(items, {...place, quiet: meta.quiet});
    this.setSlab(Boolean(place.slab), true);
    this.begin(place);
    this.crops();
    this.show();
  }

  // At the first unread candidate; where the reader was, if that is the one.
  begin(place) {
    const {meta, items} = this.review;
    const unread = [...items.values()].find((item) => !item.verdict);
    const first = items.get(meta.first_unread) || unread ||
      items.get(place.current) || items.values().next().value;
    this.current = null;
    this.judgedNow = null;
    if (first) this.go(first.item, {field: place.field});
    if (place.position && (!first || place.current === first.item)) {
      this.viewer.jump(place.position);
    }
    if (!first && place.field) this.viewer.setField(place.field);
  }

  arrived() {
    $('loading').hidden = true;
    document.body.dataset.ready = this.review.meta.name;
    const {meta, leftover} = this.review;
    this.header.tags();
    this.header.cases();
    protocol(this);
    for (const key of ['finish', 'open', 'notice', 'notices', 'leftover']) {
      banner(key, '');
    }
    banner('notices', (meta.notices || []).join(' '));
    speak(`${meta.name}, ${$('progress').textContent}`);
    if (!leftover?.length) return;
    this.review.leftover = null;
    banner('leftover', `This browser holds ${leftover.length} ` +
      `change${leftover.length > 1 ? 's' : ''} of this case that never ` +
      `reached the server (${leftover.map(told).slice(0, 4).join('; ')}).`,
    {kind: 'warn', actions: [['Save now', () => {
      banner('leftover', '');
      leftover.forEach((body) => this.review.act(body));
    }]]});
  }

  reloaded() {
    this.viewer.labels = this.review.labels;
    this.brush.labels = this.review.labels;
    if (!this.review.items.has(this.current)) this.current = null;
    this.header.tags();
    this.show();
  }

  // One action is several changes of the case: they are shown together.
  heard({items}) {
    for (const number of items) {
      const item = this.review.items.get(number);
      if (item) this.measure(item);
    }
    this.header.saved();
    this.showing ??= setTimeout(() => this.show(), 0);
  }

  get item() { return this.review.items.get(this.current) || null; }

  // Everything that follows from the state of the case.
  show() {
    const {review, viewer, list, panel} = this;
    clearTimeout(this.showing);
    this.showing = null;
    if (!review.meta || !viewer.grid) return;
    for (const item of review.items.values()) this.measure(item);
    nameAll(review.items);
    viewer.setItems(review.items, this.current);
    list.show(review.items, this.current, review.hidden);
    const all = [...review.items.values()].every((item) => item.verdict);
    panel.show(this.item, {
      asked: review.items.get(this.judgedNow), hidden: review.hidden, all,
      total: review.items.size, next: Boolean(this.asking),
      at: list.order.indexOf(this.current) + 1});
    $('finish-open').classList.toggle('ready', all && review.items.size > 0);
    this.header.show();
    const {item} = this;
    $('field-of').textContent = item ? 'lesion' : 'here';
    $('field').title = `60 mm around ${item ? nameOf(item)
      : 'the crosshair'}${bracketed('field')}`;
  }

  // Size at once, also for strokes that are not sent yet.
  measure(item) {
    const {length} = this.review.labels.voxels(item.item);
    if (length === item.voxels) return;
    const {affine: a} = this.review.meta;
    const voxel = Math.abs(
      a[0][0] * (a[1][1] * a[2][2] - a[1][2] * a[2][1]) -
      a[0][1] * (a[1][0] * a[2][2] - a[1][2] * a[2][0]) +
      a[0][2] * (a[1][0] * a[2][1] - a[1][1] * a[2][0]));
    item.voxels = length;
    item.volume_mm3 = length * voxel;
    item.diameter_mm = Math.cbrt(6 * item.volume_mm3 / Math.PI);
  }

  // What is half done is done: a stroke, words that are being typed.
  settle() {
    if (!this.review?.meta) return;
    this.paint('end');
    const {activeElement} = document;
    if (activeElement?.id === 'comment') {
      this.set('comment', activeElement.value);
    }
    if ($('notes').open) this.dialogs.note();
  }

  go(number, {field = this.viewer.field, quiet = false} = {}) {
    const item = this.review.items.get(number);
    if (!item) return;
    if (number !== this.current) {
      this.spend();
      this.since = performance.now();
      this.ms = 0;
      this.asking = null;
    }
    this.current = number;
    this.viewer.jump(item.ijk);
    if (field) this.viewer.setField(field, item.ijk);
    this.show();
    this.list.reveal();
    this.remember();
    if (!quiet) speak(`${nameOf(item)}, ${stateOf(item)}`);
  }

  // The reader's own choice: questions about another one are over.
  choosing(number) {
    this.settle();
    this.judgedNow = null;
    this.go(number);
  }

  step(by) {
    const next = this.list.beside(this.current, by);
    if (next !== undefined) this.choosing(next);
    else speak(by > 0 ? 'This is the last candidate.'
      : 'This is the first candidate.');
  }

  // Back to the current one, wherever the reader has looked meanwhile.
  home() {
    if (!this.item) { speak('No candidate is chosen.'); return; }
    this.viewer.jump(this.item.ijk);
    if (this.viewer.field) {
      this.viewer.setField(this.viewer.field, this.item.ijk);
    }
    speak(`Back at ${nameOf(this.item)}.`);
  }

  stepCase(by) {
    const {cases} = this.session;
    const at = cases.findIndex((one) => one.case === this.review.number);
    const next = cases[at + by];
    if (next) this.open(next.case);
    else banner('cases', by > 0 ? 'This is the last case.'
      : 'This is the first case.');
  }

  async refreshSession() {
    this.session.cases = (await get('api/session')).cases;
    this.header.cases();
    this.header.tags();
  }

  // Time on the current candidate, with the page in sight.
  spend() {
    const now = performance.now();
    this.ms = (this.ms || 0) + Math.min(now - (this.since ?? now), AWAY_MS);
    this.since = now;
    return Math.round(this.ms);
  }

  verdict(value) {
    const {item} = this;
    if (!item) { this.step(1); return; }
    this.settle();
    if (this.twice(value)) return;
    const ms = this.spend();
    if (item.verdict !== value) {
      this.review.set(item.item, 'verdict', value, {ms});
      this.ms = 0;
    }
    speak(`${nameOf(item)} ${value ? stateOf(item) : 'cleared'}`);
    this.judgedNow = value ? item.item : null;
    this.asking = null;
    if (value && this.prefs.ask && value !== 'unsure') this.asking = item.item;
    else if (value && this.prefs.advance) this.goOn();
    this.ruled = {value, at: performance.now(), on: this.current};
    this.show();
    if (!this.review.hidden && [...this.review.items.values()].every((one) =>
      one.verdict)) speak('All candidates are read.');
  }

  // A key that bounces, or two taps in a hurry: the next candidate, which
  // nobody can have looked at yet, gets no verdict by it.
  twice(value) {
    const {ruled} = this;
    const again = Boolean(value) && ruled?.value === value &&
      ruled.on === this.current && this.item.item !== this.judgedNow &&
      performance.now() - ruled.at < TWICE_MS;
    if (again) speak('Pressed twice in a moment: counted once.');
    return again;
  }

  goOn() {
    this.asking = null;
    const next = this.list.unread(this.current);
    if (next !== undefined && next !== this.current) this.go(next);
  }

  // While a verdict waits for its certainty or kind, digits answer.
  awaited(digit) {
    if (!this.asking || !/^[1-8]$/.test(digit)) return this.rated(digit);
    this.actions.choice(digit);
    return true;
  }

  rated(digit) {
    if (!this.rating || !digit) return false;
    this.rate(Number(digit) || 10);
    return true;
  }

  rate(value) {
    this.rating = false;
    const {item} = this;
    if (!item) return;
    this.review.set(item.item, 'rating', item.rating === value ? null : value);
  }

  choose(number, field, value) {
    const item = this.review.items.get(number);
    if (!item) return;
    const same = item[field] === value;
    this.review.set(number, field, same ? null : value);
    if (this.asking && !same) this.goOn();
    this.show();
  }

  set(field, value) {
    if (this.item && this.item[field] !== value) {
      this.review.set(this.current, field, value);
    }
  }

  rejected(number) {
    return this.review.items.get(number)?.verdict === 'reject';
  }

  paint(phase, point, plane, erase) {
    if (phase === 'begin') {
      const {item} = this;
      const why = !item ? CHOOSE() : item.locked ? LOCKED() : '';
      banner('paint', why);
      if (why) return false;
      this.brush.begin({item: item.item, erase,
        free: (number) => this.rejected(number)});
    }
    if (!this.brush?.stroke) return false;
    if (phase === 'end') {
      const stroke = this.brush.end();
      if (stroke) this.review.paint(stroke);
      return true;
    }
    this.brush.move(point, plane);
    return true;
  }

  setBrush(by) {
    const at = SIZES_MM.indexOf(this.brush.mm);
    const mm = SIZES_MM[Math.max(0, Math.min(SIZES_MM.length - 1, at + by))];
    this.brush.mm = mm;
    this.prefer({brush: mm});
    this.viewer.setTool(this.viewer.tool, mm);
    $('brush-size').textContent = `${mm} mm`;
  }

  setSlab(on, quiet = false) {
    const mm = this.prefs.slab;
    this.viewer.setSlab(on ? mm : 0);
    $('slab').value = String(mm);
    press($('minip'), on);
    if (on && ['brush', 'eraser'].includes(this.viewer.tool)) {
      this.actions.tool(null);
      banner('paint', 'A projection smears lesions: the brush works on ' +
        'single slices.');
    }
    readout(this);
    if (!quiet) this.remember();
  }

  showSequence(at) { return this.sequences.show(at); }

  // Another sequence is on the screen.
  looked() { readout(this); }

  crops() {
    const {dim, spacing} = this.review.meta;
    this.list.crops.show({...this.judged, dim, spacing,
      window: this.firstWindow, radiological: this.prefs.radiological});
  }

  prefer(change) {
    Object.assign(this.prefs, change);
    remember('prefs', this.prefs);
    this.keepSettings();
    this.viewer.setOptions({...this.prefs, crosshair: this.shows.crosshair});
    this.viewer.setOverlay({fill: this.prefs.fill});
    if ('radiological' in change) this.crops();
  }

  // Puts focus back to where keys are heard.
  arrange() { document.activeElement?.blur(); }

  async removeItem() {
    const {item} = this;
    if (!item || this.busy) return;
    if (item.origin === 'model') {
      banner('paint', 'Only lesions that you added can be removed; reject ' +
        'this one instead.');
      return;
    }
    const next = this.list.beside(this.current, 1) ??
      this.list.beside(this.current, -1);
    const answer = await this.alone({event: 'remove', item: item.item});
    if (answer && next !== undefined) this.go(next);
  }

  // An action that must not be asked for again before it is answered.
  async alone(body) {
    this.busy = true;
    try {
      return await this.review.act(body);
    } finally { this.busy = false; }
  }

  async moveItem() {
    if (!this.item) return;
    const answer = await this.review.act({event: 'move', item: this.current,
      ijk: this.viewer.position});
    if (answer) speak('Moved to the crosshair.');
  }

  askDone() { this.dialogs.askDone(); }

  async done() {
    this.sweep.report();
    const answer = await this.review.act({event: 'done'});
    if (!answer) return;
    await this.review.reload();
    this.header.tags();
    this.list.offer(this.review.items, {quiet: this.review.meta.quiet});
    this.show();
    this.goOn();
  }

  get shelf() {
    return `place:${this.session.rater}:${this.review.meta?.name}`;
  }

  remember(now = false) {
    if (!this.review.meta || !this.viewer.image || this.opening) return;
    clearTimeout(this.remembering);
    const keep = () => {
      const {viewer, list} = this;
      const own = this.sequence === this.review.meta.sequences[0];
      remember(this.shelf, {
        window: own ? viewer.window : this.windows.get(this.judged.name),
        field: viewer.field, slab: viewer.slab, position: viewer.position,
        current: this.current, sort: list.sort, filter: list.filter,
      }, this.review);
    };
    if (now) keep();
    else this.remembering = setTimeout(keep, 700);
  }
}

const app = new App();
globalThis.cmbjax = app; // for the console and for tests
app.start().catch((error) => {
  $('loading').hidden = true;
  banner('start', `The review did not start: ${error.message}`, {kind: 'bad',
    actions: [['Load again', () => location.reload()]]});
  throw error;
});
