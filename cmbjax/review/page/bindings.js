// Another key for an action: a table, and an ear for the next stroke.

import {$, cap, make, onClick} from './dom.js';
import {bind, bindable, changes, isChanged, keysOf, nameOf, named, ownerOf,
  reset, resetAll, whyNot} from './keys.js';

const HINT = 'Change: another key instead. Add: one more key.';

export class Bindings {
  // `changed` hears what is to be kept: id -> keys.
  constructor(ratings, changed) {
    Object.assign(this, {ratings, changed, waiting: null});
    onClick('bindings-reset', () => {
      resetAll();
      this.kept('All keys are as they were made.', 'bindings-reset');
    });
    $('bindings').addEventListener('keydown', (event) => this.hear(event));
    $('bindings').addEventListener('cancel', (event) => {
      if (this.waiting) event.preventDefault();
    });
    $('bindings').addEventListener('close', () => this.wait(null));
  }

  open() {
    this.print();
    this.say(HINT);
    $('bindings').showModal();
  }

  say(words, more = '') {
    $('bindings-said').replaceChildren(words, more);
  }

  kept(words, focus) {
    this.waiting = null;
    this.changed(changes());
    this.print();
    this.say(words);
    document.getElementById(focus)?.focus();
  }

  print() {
    $('bindings-body').replaceChildren(...bindable(this.ratings).map(
      ([name, rows]) => make('section', {}, make('h3', {}, name),
        make('ul', {}, ...rows.map((one) => this.line(one))))));
  }

  line(one) {
    const keys = keysOf(one.id);
    const button = (words, run, id) => make('button', {type: 'button', id,
      onclick: run, 'aria-label': `${words}: ${one.words}`}, words);
    const more = isChanged(one.id)
      ? button('Reset', () => this.back(one), `reset-${one.id}`) : '';
    return make('li', {class: keys.length ? '' : 'bare'},
      make('span', {class: 'words'}, one.words),
      make('span', {class: 'caps'}, ...keys.length
        ? keys.map((key) => cap(named(key))) : ['no key']),
      button('Change', () => this.wait(one, []), `change-${one.id}`),
      button('Add', () => this.wait(one, keys), `add-${one.id}`), more);
  }

  // The next stroke is for this row, beside the keys that it keeps.
  wait(one, beside = []) {
    this.waiting = one && {one, beside};
    $('bindings').classList.toggle('waiting', Boolean(one));
    if (one) this.say(`Press the key for "${one.words}". Esc: no other key.`);
  }

  hear(event) {
    if (!this.waiting) return;
    const bare = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (event.key === 'Tab' && bare) { // moves on, as everywhere
      this.wait(null);
      this.say(HINT);
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    if (event.repeat || ['Shift', 'Control', 'Alt', 'AltGraph', 'Meta']
      .includes(event.key)) return;
    const {one, beside} = this.waiting;
    if (event.key === 'Escape') {
      this.wait(null);
      this.say('Nothing was changed.');
      return;
    }
    this.take(one, beside, nameOf(event));
  }

  take(one, beside, key) {
    const why = whyNot(key);
    if (why) { this.say(`${why} Press another key, or Esc.`); return; }
    const other = ownerOf(key);
    const done = () => {
      bind(one.id, [...beside, key]);
      const lost = other && other !== one && !keysOf(other.id).length
        ? ` "${other.words}" has no key now.` : '';
      this.wait(null);
      this.kept(`${named(key)} is "${one.words}" now.${lost}`,
        `change-${one.id}`);
    };
    if (!other || other.id === one.id) { done(); return; }
    this.wait(null);
    const use = make('button', {type: 'button', onclick: done}, 'Use it here');
    this.say(`${named(key)} is the key of "${other.words}" already. `, use);
    use.focus();
  }

  back(one) {
    reset(one.id);
    const short = isChanged(one.id) ? ' Some of its own keys are in use.' : '';
    this.kept(`"${one.words}" is as it was made.${short}`,
      `change-${one.id}`);
  }
}
