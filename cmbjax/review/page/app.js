// The page: opens cases, and lets the parts speak with one another.

import {actionsOf, bindButtons} from './actions.js';
import {get} from './api.js';
import {Dialogs} from './dialogs.js';
import {$, banner, press, speak} from './dom.js';
import {Header} from './header.js';
import {bracketed, listenToKeys, printButtons, restore} from './keys.js';
import {List} from './list.js';
import {keepPlace, keepSettings, watchTabs} from './memory.js';
import {nameAll, nameOf} from './names.js';
import {Painting} from './painting.js';
import {Panel} from './panel.js';
import {fitPhones} from './phone.js';
import {Reading} from './reading.js';
import {protocol, readout} from './readout.js';
import {Review, told} from './review.js';
import {Sequences} from './sequences.js';
import {Sweep} from './sweep.js';
import {Viewer} from './viewer.js';

const PREFERENCES = {radiological: true, smooth: false, fill: false,
  advance: true, ask: false, slab: 10, brush: 3, sphere: true};
const QUIET_MS = 700; // a place is kept when the reader has stopped moving

// Of what was kept, what is a preference and of its kind.
const known = (kept) => Object.fromEntries(Object.entries(PREFERENCES)
  .filter(([name, value]) => typeof kept?.[name] === typeof value)
  .map(([name]) => [name, kept[name]]));

class App {
  async start() {
    this.session = await get('api/session');
    const {settings} = this.session;
    this.prefs = {...PREFERENCES, ...known(settings?.prefs)};
    this.shows = {overlay: true, crosshair: true};
    this.keys = settings?.keys || {};
    const odd = restore(this.keys);
    if (odd.length) banner('keys', `Keys of your settings: ${odd.join(' ')}`);
    this.make();
    $('about').textContent =
      `Reader ${this.session.rater} · cmbjax ${this.session.version}`;
    this.printKeys();
    this.listen();
    await this.open(this.session.start || 0);
  }

  // In this order: a part may use those above it at once.
  make() {
    this.review = new Review(this.session);
    this.viewer = new Viewer($('viewer'), {
      onMove: () => { this.sweep.moved(); readout(this); this.remember(); },
      onWindow: () => { readout(this); this.remember(); },
      onField: (mm) => { press($('field'), mm); this.remember(); },
      onGrow: (point) => this.painting.growAt(point),
      paint: (...stroke) => this.painting.stroke(...stroke),
    });
    this.reading = new Reading(this);
    this.painting = new Painting(this);
    this.panel = new Panel(this);
    this.list = new List((number) => this.reading.choose(number),
      () => this.remember());
    this.sweep = new Sweep(this);
    this.header = new Header(this);
    this.sequences = new Sequences(this);
    this.dialogs = new Dialogs(this);
    this.actions = actionsOf(this);
  }

  listen() {
    const {review} = this;
    review.addEventListener('change', ({detail}) => this.heard(detail));
    review.addEventListener('notice', ({detail}) =>
      banner('notice', detail.text));
    review.addEventListener('reload', () => this.reloaded());
    bindButtons(this);
    fitPhones();
    listenToKeys(this.actions, {ratings: this.session.ratings,
      busy: (digit) => this.opening || this.reading.digit(digit)});
    new ResizeObserver(() => this.list.reveal()).observe($('rows'));
    addEventListener('beforeunload', (event) => {
      this.settle();
      this.remember(true);
      if (!review.saved) event.preventDefault();
    });
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'hidden') {
        this.settle();
        review.retry();
        this.reading.spend();
      } else {
        this.reading.since = performance.now();
        if (review.failure) review.retry();
      }
    });
    addEventListener('online', () => review.retry());
    watchTabs(this);
  }

  // The reader has bound other keys.
  bound(keys) {
    this.keys = keys;
    keepSettings(this);
    this.panel.keys();
    this.printKeys();
    this.sequences.buttons();
    this.show();
  }

  printKeys() {
    printButtons();
    this.dialogs.keys();
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

  // The parts get the case, as the reader has left it.
  async fill() {
    const {review, viewer} = this;
    const {meta, labels, items} = review;
    const place = meta.place || {};
    this.sequence = meta.sequences[0];
    this.firstWindow = this.sequence.window;
    this.judged = {...this.sequence,
      raw: review.images.get(this.sequence.name)};
    viewer.load(meta, labels);
    this.painting.begin(review);
    this.windows = new Map();
    if (place.window) this.windows.set(this.sequence.name, place.window);
    viewer.setOptions({...this.prefs, crosshair: this.shows.crosshair,
      quiet: meta.quiet});
    viewer.setOverlay({shown: this.shows.overlay, fill: this.prefs.fill});
    await this.sequences.show(0);
    this.list.offer(items, {...place, quiet: meta.quiet});
    this.setSlab(Boolean(place.slab), true);
    this.reading.begin();
    this.goTo(place);
    this.crops();
    this.show();
  }

  // The first unread candidate; where the reader was, if that is the one.
  goTo(place) {
    const {items, meta, unread} = this.review;
    const first = items.get(meta.first_unread) || unread[0] ||
      items.get(place.current) || items.values().next().value;
    if (first) this.reading.go(first.item, {field: place.field});
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
    this.painting.brush.labels = this.review.labels;
    this.painting.take(null);
    if (!this.reading.item) this.reading.current = null;
    this.header.tags();
    this.show();
  }

  // One action is several changes of the case: they are shown together.
  heard({items}) {
    for (const number of items) this.review.measure(number);
    this.header.saved();
    this.showing ??= setTimeout(() => this.show(), 0);
  }

  // Everything that follows from the state of the case.
  show() {
    const {review, viewer, reading: {current, item, judged, asking}} = this;
    clearTimeout(this.showing);
    this.showing = null;
    if (!review.meta || !viewer.grid) return;
    for (const number of review.items.keys()) review.measure(number);
    nameAll(review.items);
    viewer.setItems(review.items, current);
    this.list.show(review.items, current, review.hidden);
    const all = !review.unread.length;
    this.panel.show(item, {
      asked: review.items.get(judged), hidden: review.hidden, all,
      total: review.items.size, next: Boolean(asking),
      at: this.list.order.indexOf(current) + 1});
    $('finish-open').classList.toggle('ready', all && review.items.size > 0);
    this.header.show();
    $('field-of').textContent = item ? 'lesion' : 'here';
    $('field').title = `60 mm around ${item ? nameOf(item)
      : 'the crosshair'}${bracketed('field')}`;
  }

  // What is half done is done: a stroke, words that are being typed.
  settle() {
    if (!this.review?.meta) return;
    this.painting.stroke('end');
    const {activeElement} = document;
    if (activeElement?.id === 'comment') {
      this.reading.set('comment', activeElement.value);
    }
    if ($('notes').open) this.dialogs.note();
  }

  stepCase(by) {
    const {cases} = this.session;
    const at = cases.findIndex((one) => one.case === this.review.number);
    const next = cases[at + by];
    if (next) this.open(next.case);
    else banner('cases', by > 0 ? 'This is the last case.'
      : 'This is the first case.');
  }

  setSlab(on, quiet = false) {
    const mm = this.prefs.slab;
    this.viewer.setSlab(on ? mm : 0);
    $('slab').value = String(mm);
    press($('minip'), on);
    if (on && ['brush', 'eraser'].includes(this.viewer.tool)) {
      this.painting.take(null);
      banner('paint', 'A projection smears lesions: the brush works on ' +
        'single slices.');
    }
    readout(this);
    if (!quiet) this.remember();
  }

  crops() {
    const {dim, spacing} = this.review.meta;
    this.list.crops.show({...this.judged, dim, spacing,
      window: this.firstWindow, radiological: this.prefs.radiological});
  }

  prefer(change) {
    Object.assign(this.prefs, change);
    keepSettings(this);
    this.viewer.setOptions({...this.prefs, crosshair: this.shows.crosshair});
    this.viewer.setOverlay({fill: this.prefs.fill});
    if ('radiological' in change) this.crops();
  }

  async done() {
    const {review} = this;
    this.sweep.report();
    if (!await review.act({event: 'done'})) return;
    await review.reload();
    this.list.offer(review.items, {quiet: review.meta.quiet});
    this.show();
    this.reading.goOn();
  }

  remember(now = false) {
    if (!this.review.meta || !this.viewer.image || this.opening) return;
    clearTimeout(this.remembering);
    const keep = () => {
      const {viewer, list} = this;
      const own = this.sequence === this.review.meta.sequences[0];
      keepPlace(this.review, {
        window: own ? viewer.window : this.windows.get(this.judged.name),
        field: viewer.field, slab: viewer.slab, position: viewer.position,
        current: this.reading.current, sort: list.sort, filter: list.filter,
      });
    };
    if (now) keep();
    else this.remembering = setTimeout(keep, QUIET_MS);
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
