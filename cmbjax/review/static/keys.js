// The keys: one table, from which the help is printed and the keys are read.

import {make, cap} from './dom.js';

// [keys, action, words, repeats while held]
export const GROUPS = [
  ['Verdict', [
    [['a'], 'accept', 'accept'],
    [['r'], 'reject', 'reject'],
    [['u'], 'unsure', 'unsure'],
    [['0'], 'clear', 'clear the verdict'],
    [['shift+1–8'], 'choice', 'certainty or kind of the last one judged'],
    [['c'], 'comment', 'comment (Esc leaves it)'],
  ]],
  ['Go', [
    [['n', 'j'], 'next', 'next candidate', true],
    [['p', 'k'], 'previous', 'previous candidate', true],
    [['Home'], 'home', 'back to the current candidate'],
    [['PageDown'], 'nextCase', 'next case'],
    [['PageUp'], 'previousCase', 'previous case'],
    [['s'], 'sweep', 'sweep: go through all slices'],
    [['Enter'], 'play', 'in a sweep: play or pause'],
  ]],
  ['Look', [
    [['ArrowUp', 'ArrowRight'], 'sliceUp', 'next slice of the plane marked ↕', true],
    [['ArrowDown', 'ArrowLeft'], 'sliceDown', 'slice before', true],
    [['shift+arrows'], 'nudge', 'move the crosshair by a voxel', true],
    [['1'], 'sequence', 'SWI'],
    [['2'], 'sequence', 'phase, else QSM'],
    [['3', 'm'], 'minip', 'minimum-intensity slab (minIP) on or off'],
    [['4', '5', '6'], 'sequence', 'magnitude and what else there is'],
    [['f'], 'field', '60 mm around the current candidate, and back'],
    [['w'], 'window', 'then drag: window (or the right button)'],
    [['x'], 'crosshair', 'crosshair on or off'],
    [[' '], 'overlay', 'outlines on or off'],
    [['v'], 'peek', 'hold: outlines away'],
  ]],
  ['Mouse', [
    [['wheel'], '', 'slices'],
    [['ctrl+wheel'], '', 'zoom about the pointer'],
    [['shift+drag'], '', 'pan (or the middle button)'],
    [['right+drag'], '', 'window'],
    [['fingers'], '', 'one: slices, or pan when zoomed; two: zoom and pan'],
  ]],
  ['Draw', [
    [['b'], 'brush', 'brush'],
    [['e'], 'eraser', 'eraser (or Ctrl while painting)'],
    [['-', '['], 'smaller', 'smaller brush', true],
    [['=', ']'], 'larger', 'larger brush', true],
    [['g'], 'grow', 'then click: grow from that voxel'],
    [['+'], 'add', 'add a lesion at the crosshair'],
    [['Delete'], 'remove', 'remove a lesion that you added'],
  ]],
  ['Keep', [
    [['ctrl+z'], 'undo', 'undo', true],
    [['ctrl+shift+z', 'ctrl+y'], 'redo', 'redo', true],
    [['ctrl+s'], 'save', 'save now'],
    [['?'], 'help', 'these keys'],
    [['Escape'], 'leave', 'leave the tool'],
  ]],
];

// One line of the help, several keys.
const SEVERAL = {
  'shift+1–8': [1, 2, 3, 4, 5, 6, 7, 8].map((digit) => `shift+${digit}`),
  'shift+arrows': ['Up', 'Down', 'Left', 'Right'].map((way) =>
    `shift+Arrow${way}`),
};
const RATING = [['l'], 'rating', 'rate: then 1 to 9, 0 is 10'];
const NAMES = {
  ' ': 'Space', ArrowUp: '↑', ArrowDown: '↓', ArrowLeft: '←',
  ArrowRight: '→', PageDown: 'PgDn', PageUp: 'PgUp', Delete: 'Del',
  Escape: 'Esc', Home: 'Home', Enter: 'Enter', ctrl: 'Ctrl', shift: 'Shift',
  arrows: 'arrows', wheel: 'wheel', drag: 'drag', right: 'right',
  fingers: 'fingers',
};

const named = (key) => (key === '+' ? ['+'] : key.split('+'))
  .map((part) => NAMES[part] || part.toUpperCase()).join(' ');

export function groups(ratings) {
  return GROUPS.map(([name, rows]) =>
    [name, ratings && name === 'Verdict' ? [...rows, RATING] : rows]);
}

// What a key stroke is called in the table; '' when it is not ours.
export function nameOf(event) {
  if (event.altKey || event.isComposing) return '';
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    return `ctrl+${event.shiftKey ? 'shift+' : ''}${key}`;
  }
  if (event.shiftKey) {
    if (/^Digit[1-9]$/.test(event.code)) return `shift+${event.code.at(-1)}`;
    if (key.startsWith('Arrow')) return `shift+${key}`;
  }
  return key;
}

const typing = (target) =>
  Boolean(target.closest?.('input, textarea, select, [contenteditable]'));
// A button that the keyboard has reached keeps its own keys.
const own = (target, key) => (key === ' ' || key === 'Enter') &&
  Boolean(target.closest?.('button, summary, a')) &&
  target.matches(':focus-visible');

export function listenToKeys(actions, {ratings, busy}) {
  const table = new Map();
  for (const [, rows] of groups(ratings)) {
    for (const [keys, action, , repeats] of rows) {
      for (const key of keys.flatMap((one) => SEVERAL[one] || [one])) {
        table.set(key, {action, repeats});
      }
    }
  }
  addEventListener('keydown', (event) => {
    const key = nameOf(event);
    if (typing(event.target)) {
      if (event.key === 'Escape' && !document.querySelector('dialog[open]')) {
        event.target.blur();
      }
      if (key === 'ctrl+s') { event.preventDefault(); actions.save(); }
      return;
    }
    if (document.querySelector('dialog[open]') || own(event.target, key)) {
      return;
    }
    if (busy(key)) { event.preventDefault(); return; }
    const known = table.get(key);
    if (!known || !actions[known.action]) return;
    event.preventDefault();
    if (event.repeat && !known.repeats) return;
    actions[known.action](key);
  });
  addEventListener('keyup', (event) => {
    if (event.key.toLowerCase() === 'v') actions.unpeek();
  });
  addEventListener('blur', () => actions.unpeek());
}

// The help, from the same table.
export function printKeys(host, ratings) {
  host.replaceChildren(...groups(ratings).map(([name, rows]) =>
    make('section', {}, make('h3', {}, name), make('dl', {},
      ...rows.flatMap(([keys, , words]) => [
        make('dt', {}, ...keys.flatMap((key, at) =>
          [at ? ' ' : '', cap(named(key))])),
        make('dd', {}, words)])))));
}
