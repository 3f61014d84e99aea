// The keys: one table, from which the help is printed and the keys are read,
// and what a reader has bound otherwise.
//
// A key is the sign that is printed on it, so that A is A on every keyboard;
// a digit is its place in the upper row as well, where Shift makes the digits
// (AZERTY), and a letter its place where the alphabet is another one.

import {make, cap} from './dom.js';

const row = (keys, action, words, more = {}) =>
  ({id: action + (more.arg || ''), keys, action, words, ...more});
const several = (args, keyOf, action, words, more) => args.map((arg) =>
  row([keyOf(arg)], action, words(arg), {arg, ...more}));

// Rows of one `family` are one line of the help.
const GROUPS = [
  ['Verdict', [
    row(['a'], 'accept', 'accept'),
    row(['r'], 'reject', 'reject'),
    row(['u'], 'unsure', 'unsure'),
    row(['0'], 'clear', 'clear the verdict'),
    ...several([...'12345678'], (arg) => `shift+${arg}`, 'choice',
      (arg) => `certainty or kind ${arg}`, {family: {caps: ['⇧ 1–8'],
        words: 'certainty or kind of the last one judged'}}),
    row(['c'], 'comment', 'comment (Esc leaves it)'),
    row(['l'], 'rating', 'rate: then 1 to 9, 0 is 10', {ratings: true}),
  ]],
  ['Go', [
    row(['n', 'j'], 'next', 'next candidate', {repeats: true}),
    row(['p', 'k'], 'previous', 'previous candidate', {repeats: true}),
    row(['Home'], 'home', 'back to the current candidate'),
    row(['PageDown'], 'nextCase', 'next case'),
    row(['PageUp'], 'previousCase', 'previous case'),
    row(['s'], 'sweep', 'sweep: go through all slices'),
    row(['Enter'], 'play', 'in a sweep: play or pause'),
  ]],
  ['Look', [
    row(['ArrowUp', 'ArrowRight'], 'sliceUp',
      'next slice of the plane marked ↕', {repeats: true}),
    row(['ArrowDown', 'ArrowLeft'], 'sliceDown', 'slice before',
      {repeats: true}),
    ...several(['Up', 'Down', 'Left', 'Right'], (arg) => `shift+Arrow${arg}`,
      'nudge', (arg) => `crosshair one voxel ${arg.toLowerCase()}`,
      {repeats: true, family: {caps: ['⇧ arrows'],
        words: 'move the crosshair by a voxel'}}),
    row(['1'], 'sequence', 'SWI', {arg: '1'}),
    row(['2'], 'sequence', 'phase, else QSM', {arg: '2'}),
    row(['m', '3'], 'minip', 'minimum-intensity slab (minIP) on or off'),
    ...several([...'456'], (arg) => arg, 'sequence',
      (arg) => `further sequence, number ${arg - 3}`,
      {family: {words: 'magnitude and what else there is'}}),
    row(['f'], 'field', '60 mm around the current candidate, and back'),
    row(['w'], 'window', 'then drag: window (or the right button)'),
    row(['x'], 'crosshair', 'crosshair on or off'),
    row([' '], 'overlay', 'outlines on or off'),
    row(['v'], 'peek', 'hold: outlines away'),
  ]],
  ['Mouse', [
    row([], '', 'slices', {caps: ['wheel']}),
    row([], '', 'zoom about the pointer', {caps: ['Ctrl wheel']}),
    row([], '', 'pan (or the middle button)', {caps: ['⇧ drag']}),
    row([], '', 'window', {caps: ['right drag']}),
    row([], '', 'one: slices, or pan when zoomed; two: zoom and pan',
      {caps: ['fingers']}),
  ]],
  ['Draw', [
    row(['b'], 'brush', 'brush'),
    row(['e'], 'eraser', 'eraser (or Ctrl while painting)'),
    row(['-', '['], 'smaller', 'smaller brush', {repeats: true}),
    row(['=', ']'], 'larger', 'larger brush', {repeats: true}),
    row(['g'], 'grow', 'then click: grow from that voxel'),
    row(['+'], 'add', 'add a lesion at the crosshair'),
    row(['Delete'], 'remove', 'remove a lesion that you added'),
  ]],
  ['Keep', [
    row(['ctrl+z'], 'undo', 'undo', {repeats: true}),
    row(['ctrl+shift+z', 'ctrl+y'], 'redo', 'redo', {repeats: true}),
    row(['ctrl+s'], 'save', 'save now'),
    row(['?'], 'help', 'these keys'),
    row(['Escape'], 'leave', 'leave the tool', {fixed: true}),
  ]],
];
const ROWS = GROUPS.flatMap(([, rows]) => rows).filter((one) => one.action);
const BY_ID = new Map(ROWS.map((one) => [one.id, one]));

const NAMES = {
  ' ': 'Space', ArrowUp: '↑', ArrowDown: '↓', ArrowLeft: '←',
  ArrowRight: '→', PageDown: 'PgDn', PageUp: 'PgUp', Delete: 'Del',
  Escape: 'Esc', Insert: 'Ins', Backspace: '⌫', ctrl: 'Ctrl', shift: '⇧',
};
const NAMED = /^(shift\+)?Arrow(Up|Down|Left|Right)$|^(Home|End|PageUp|PageDown|Delete|Backspace|Insert|Enter|F2|F4|F8|F9)$|^shift\+[1-9]$/;
const WITH_CTRL = /^ctrl\+(shift\+z|[bisyz]|Enter)$/;
const MODIFIERS = new Set(['Shift', 'Control', 'Alt', 'Meta', 'AltGraph', 'OS',
  'CapsLock', 'NumLock', 'ScrollLock', 'Fn', 'Hyper', 'Super']);

let bound = new Map(); // id -> keys
let table = new Map(); // key -> row

function bindAll(keysOf) {
  bound = new Map(ROWS.map((one) => [one.id, keysOf(one)]));
  table = new Map();
  for (const one of ROWS) {
    for (const key of bound.get(one.id)) table.set(key, one);
  }
}
bindAll((one) => one.keys);

// What a key is called for people.
export const named = (key) => (key === '+' || key.endsWith('++')
  ? [...key.split('+').slice(0, -2), '+'] : key.split('+'))
  .map((part) => NAMES[part] || (part.length === 1 && part !== 'ß'
    ? part.toUpperCase() : part)).join(' ');

// The first key of an action, for people; '' where it has none.
export function shown(id) {
  const [key] = bound.get(id) || [];
  return key === undefined ? '' : named(key);
}

// Behind words.
export const bracketed = (id) => (shown(id) ? ` (${shown(id)})` : '');

export const keysOf = (id) => [...bound.get(id)];
export const isChanged = (id) =>
  keysOf(id).join('\n') !== BY_ID.get(id).keys.join('\n');
export const ownerOf = (key) => table.get(key) || null;

// Why a key cannot be bound; '' when it can.
export function whyNot(key) {
  const only = 'With Ctrl only Z, Y, S, B, I and Enter are free.';
  if (!key) return 'This key, or a key with Alt, cannot be used here.';
  if (key === 'Escape') return 'Esc always leaves a tool or a window.';
  if (key.startsWith('ctrl+')) {
    return WITH_CTRL.test(key) ? ''
      : `${named(key)} belongs to the browser. ${only}`;
  }
  if (key === 'Tab') return 'Tab moves from button to button.';
  if (key.length === 1 || NAMED.test(key)) return '';
  return `${named(key)} belongs to the browser or the system.`;
}

// Binds an action to these keys alone; others that had them lose them.
export function bind(id, keys) {
  const wanted = new Set(keys);
  const before = bound;
  bindAll((one) => (one.id === id ? [...wanted]
    : before.get(one.id).filter((key) => !wanted.has(key))));
}

// Back to its own keys, as far as they are free.
export function reset(id) {
  bind(id, BY_ID.get(id).keys.filter((key) =>
    [undefined, id].includes(table.get(key)?.id)));
}

export const resetAll = () => bindAll((one) => one.keys);

// What differs from the table, to be kept.
export const changes = () => Object.fromEntries(
  ROWS.filter((one) => isChanged(one.id)).map((one) =>
    [one.id, keysOf(one.id)]));

// Takes in what was kept; sentences about what of it cannot be.
export function restore(kept) {
  const problems = [];
  const given = new Map();
  const taken = new Map();
  const plain = kept && typeof kept === 'object' && !Array.isArray(kept);
  for (const [id, keys] of Object.entries(plain ? kept : {})) {
    const one = BY_ID.get(id);
    if (!one || one.fixed || !Array.isArray(keys)) {
      problems.push(`"${id}" is no action that has keys.`);
      continue;
    }
    const good = [];
    for (const key of new Set(keys)) {
      const why = typeof key !== 'string' ? 'A key is a text.' : taken.has(key)
        ? `${named(key)} is on "${taken.get(key).words}" already.`
        : whyNot(key);
      if (why) problems.push(why);
      else { good.push(key); taken.set(key, one); }
    }
    given.set(id, good);
  }
  bindAll((one) => given.get(one.id) ||
    one.keys.filter((key) => !taken.has(key)));
  return problems;
}

// What a key stroke is called in the table; '' when it is not ours.
export function nameOf(event) {
  const {key, code = '', shiftKey: shift} = event;
  // AltGr makes signs; on some systems it is Ctrl and Alt at once.
  const graph = event.getModifierState?.('AltGraph');
  if (event.isComposing || MODIFIERS.has(key) || !key) return '';
  if (event.altKey && !graph) return '';
  const digit = /^Digit([0-9])$/.exec(code)?.[1];
  let name = key.length === 1 ? key.toLowerCase() : key;
  if (name.length === 1 && name > '\x7f') { // another alphabet
    const letter = /^Key([A-Z])$/.exec(code)?.[1].toLowerCase();
    if (letter && !table.has(name)) name = letter;
  }
  if ((event.ctrlKey || event.metaKey) && !graph) {
    return `ctrl+${shift ? 'shift+' : ''}${name}`;
  }
  if (shift && Number(digit) && !graph) return `shift+${digit}`;
  if (shift && name.startsWith('Arrow')) return `shift+${name}`;
  if (digit && !shift && !graph && !table.has(name)) return digit;
  return name;
}

// The digit of a stroke, wherever it is printed; '' of others.
export function digitOf(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return '';
  if (/^[0-9]$/.test(event.key)) return event.key;
  return (!event.shiftKey && /^Digit([0-9])$/.exec(event.code)?.[1]) || '';
}

const typing = (target) =>
  Boolean(target.closest?.('input, textarea, select, [contenteditable]'));
// A button that the keyboard has reached keeps its own keys.
const own = (target, key) => (key === ' ' || key === 'Enter') &&
  Boolean(target.closest?.('button, summary, a')) &&
  target.matches(':focus-visible');

export function listenToKeys(actions, {ratings, busy}) {
  let peeking = null; // the stroke that is held
  addEventListener('keydown', (event) => {
    const key = nameOf(event);
    const known = table.get(key);
    if (typing(event.target)) {
      if (event.key === 'Escape' && !document.querySelector('dialog[open]')) {
        event.target.blur();
      }
      if (known?.action === 'save' && key.startsWith('ctrl+')) {
        event.preventDefault();
        actions.save();
      }
      return;
    }
    if (document.querySelector('dialog[open]') || own(event.target, key)) {
      if (known?.action === 'save') event.preventDefault(); // not the browser's
      return;
    }
    if (busy(digitOf(event))) { event.preventDefault(); return; }
    if (!known || (known.ratings && !ratings) || !actions[known.action]) return;
    event.preventDefault();
    if (event.repeat && !known.repeats) return;
    if (known.action === 'peek') peeking = event;
    actions[known.action](known.arg || key);
  });
  addEventListener('keyup', ({code, key}) => {
    if (!peeking || (key !== peeking.key && code !== peeking.code)) return;
    peeking = null;
    actions.unpeek();
  });
  addEventListener('blur', () => actions.unpeek());
}

const offered = (one, ratings) => !one.ratings || ratings;

// The rows that can be bound, by group.
export const bindable = (ratings) => GROUPS.map(([name, rows]) =>
  [name, rows.filter((one) => one.action && !one.fixed &&
    offered(one, ratings))]).filter(([, rows]) => rows.length);

// Lines of the help: [caps, words]. A family is one line.
function lines(rows, ratings) {
  const found = [];
  const families = new Set();
  for (const one of rows.filter((each) => offered(each, ratings))) {
    const {family} = one;
    if (!family) {
      found.push([one.caps || keysOf(one.id).map(named), one.words]);
    } else if (!families.has(family)) {
      families.add(family);
      const ids = rows.filter((each) => each.family === family)
        .map((each) => each.id);
      found.push([family.caps && !ids.some(isChanged) ? family.caps
        : ids.flatMap(keysOf).map(named), family.words]);
    }
  }
  return found;
}

// The help, from the same table.
export function printKeys(host, ratings) {
  host.replaceChildren(...GROUPS.map(([name, rows]) =>
    make('section', {}, make('h3', {}, name), make('dl', {},
      ...lines(rows, ratings).flatMap(([caps, words]) => [
        make('dt', {}, ...caps.length ? caps.flatMap((key, at) =>
          [at ? ' ' : '', cap(key)]) : ['no key']),
        make('dd', {}, words)])))));
}

// Buttons and hints of the page say the keys that are bound:
// data-key on a button with data-words, data-cap where there is only the key.
export function printButtons(root = document) {
  for (const button of root.querySelectorAll('[data-key]')) {
    const {key, words} = button.dataset;
    button.title = words + bracketed(key);
    const sign = button.querySelector('kbd');
    if (!sign) continue;
    sign.textContent = shown(key) === 'Space' ? '␣' : shown(key) === 'Enter'
      ? '↵' : shown(key);
    sign.hidden = !shown(key);
  }
  for (const place of root.querySelectorAll('[data-cap]')) {
    place.textContent = shown(place.dataset.cap) || 'the button';
    place.hidden = place.tagName === 'KBD' && !shown(place.dataset.cap);
  }
}
