// The sequences of a case: their buttons and keys, and the wait for the first
// sight of one.

import {$, banner, cap, make, press, speak} from './dom.js';
import {bracketed, shown} from './keys.js';
import {readout} from './readout.js';

const OTHERS = ['phase', 'qsm']; // what key 2 shows, the first that is there

// 1: the judged one. 2: phase or QSM. 3 is the slab. 4 and on: the rest.
export function slotsOf(sequences) {
  const keys = new Map(sequences.length ? [['1', 0]] : []);
  const second = OTHERS.map((name) => sequences.findIndex((one, at) =>
    at && one.name === name)).find((at) => at > 0);
  if (second) keys.set('2', second);
  let digit = 4;
  sequences.forEach((one, at) => {
    if (at && at !== second && digit < 10) keys.set(String(digit++), at);
  });
  return keys;
}

export class Sequences {
  constructor(app) {
    this.app = app;
    this.fetching = null; // the one that is on its way
  }

  // Without phase or QSM, 2 is whatever else there is.
  key(key) {
    const {sequences} = this.app.review.meta;
    const at = slotsOf(sequences).get(key) ?? (key === '2' ? 1 : -1);
    if (sequences[at]) return this.show(at);
    banner('sequence', sequences.length < 2
      ? 'This case has one sequence only.'
      : `No sequence of this case is on key ${shown(`sequence${key}`)}.`);
    return null;
  }

  // The last wish counts: one that comes late does not push another away.
  async show(at) {
    const {app} = this;
    const {meta} = app.review;
    const sequence = meta.sequences[at];
    if (!sequence) return;
    this.wish = sequence;
    if (!app.review.images.has(sequence.name)) {
      if (this.fetching === sequence) return;
      this.wait(sequence);
      speak(`Loading ${sequence.label}.`);
    }
    let raw;
    try {
      raw = await app.review.image(sequence);
    } catch (error) {
      if (meta !== app.review.meta) return;
      banner('sequence', `${sequence.label}: ${error.message}`);
      if (this.fetching === sequence) this.wait(null);
      return;
    }
    if (meta !== app.review.meta || this.wish !== sequence) {
      if (this.fetching === sequence) this.wait(null);
      return;
    }
    if (app.sequence && app.viewer.image) {
      app.windows.set(app.sequence.name, [...app.viewer.window]);
    }
    app.sequence = sequence;
    app.viewer.setWindow(...(app.windows.get(sequence.name) ||
      sequence.window));
    app.viewer.setImage({raw, slope: sequence.slope,
      intercept: sequence.intercept, label: sequence.label, judged: at === 0});
    this.wait(null);
    banner('sequence', '');
    readout(app);
  }

  wait(sequence) {
    this.fetching = sequence;
    $('fetching').hidden = !sequence;
    $('fetching').textContent = sequence
      ? `loading ${lower(sequence.label)}…` : '';
    this.buttons();
  }

  // In the order of their keys.
  buttons() {
    const {sequences} = this.app.review.meta;
    const all = [...slotsOf(sequences)].sort();
    $('sequences').replaceChildren(...all.map(([key, at]) => {
      const one = sequences[at];
      const late = one === this.fetching;
      const button = make('button', {onclick: () => this.show(at),
        title: one.label + bracketed(`sequence${key}`)},
      late ? `loading ${lower(one.label)}… ` : `${one.label} `,
      late || !shown(`sequence${key}`) ? '' : cap(shown(`sequence${key}`)));
      button.setAttribute('aria-busy', String(late));
      press(button, one === this.app.sequence);
      return button;
    }));
  }
}

// SWI and QSM stay in capitals.
const lower = (label) =>
  (label === label.toUpperCase() ? label : label.toLowerCase());
