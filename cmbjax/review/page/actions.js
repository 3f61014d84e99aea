// What keys and buttons do.

import {$, banner, press, speak} from './dom.js';
import {bracketed} from './keys.js';
import {PLANES, indexOf, nearest} from './planes.js';

export const CHOOSE = () => 'Choose a candidate first, or add a lesion' +
  `${bracketed('add')}.`;
export const LOCKED = () => 'A rejected candidate is locked: clear its ' +
  `verdict first${bracketed('clear')}.`;
const FIELD_MM = 60;
const GROW_MM = 6;

export function actionsOf(app) {
  const {review} = app;
  const overlay = (shown) => {
    app.shows.overlay = shown;
    app.viewer.setOverlay({shown});
    press($('outline'), shown);
  };
  const actions = {
    accept: () => app.verdict('accept'),
    reject: () => app.verdict('reject'),
    unsure: () => app.verdict('unsure'),
    clear: () => app.verdict(null),
    choice: (digit) => choice(app, Number(digit)),
    comment: () => document.getElementById('comment')?.focus(),
    rating: () => {
      app.rating = Boolean(app.item);
      speak('Rating: press 1 to 9, or 0 for 10.');
    },
    next: () => (app.asking ? app.goOn() : app.step(1)),
    previous: () => app.step(-1),
    nextCase: () => app.stepCase(1),
    previousCase: () => app.stepCase(-1),
    sweep: () => app.sweep.toggle(),
    play: () => app.sweep.play(),
    sliceUp: () => app.viewer.step(1),
    sliceDown: () => app.viewer.step(-1),
    nudge: (way) => nudge(app, way),
    sequence: (slot) => app.sequences.key(slot),
    minip: () => app.setSlab(!app.viewer.slab),
    field: () => field(app),
    home: () => app.home(),
    window: () => actions.tool(toggled(app, 'window')),
    crosshair: () => {
      app.shows.crosshair = !app.shows.crosshair;
      app.viewer.setOptions({crosshair: app.shows.crosshair});
    },
    overlay: () => overlay(!app.shows.overlay),
    peek: () => { app.peeking = true; app.viewer.setOverlay({shown: false}); },
    unpeek: () => {
      if (!app.peeking) return;
      app.peeking = false;
      app.viewer.setOverlay({shown: app.shows.overlay});
    },
    brush: () => actions.tool(toggled(app, 'brush')),
    eraser: () => actions.tool(toggled(app, 'eraser')),
    grow: () => actions.tool(toggled(app, 'grow')),
    smaller: () => app.setBrush(-1),
    larger: () => app.setBrush(1),
    tool: (name) => tool(app, name),
    growAt: (point) => growAt(app, point),
    add: () => add(app),
    remove: () => app.removeItem(),
    undo: () => back(app, 'undo'),
    redo: () => back(app, 'redo'),
    save: () => save(app),
    help: () => $('help').showModal(),
    leave: () => {
      app.rating = false;
      if (app.viewer.tool) actions.tool(null);
      else if (app.asking) app.goOn();
      else if (app.sweep.on) app.sweep.toggle();
    },
  };
  review.addEventListener('reload', () => actions.tool(null));
  return actions;
}

const toggled = (app, name) => (app.viewer.tool === name ? null : name);

// Drawing is for single slices of the image that is judged.
function tool(app, name) {
  if (['brush', 'eraser', 'grow'].includes(name)) {
    if (app.viewer.slab && name !== 'grow') app.setSlab(false);
    if (app.sequence !== app.review.meta.sequences[0]) app.showSequence(0);
    if (!app.shows.overlay) app.actions.overlay();
    banner('paint', app.item ? '' : CHOOSE());
  }
  app.viewer.setTool(name, app.brush.mm);
  for (const one of ['brush', 'eraser', 'grow', 'window']) {
    press($(one), one === name);
  }
  $('brush-bar').hidden = name !== 'brush' && name !== 'eraser';
  $('brush-size').textContent = `${app.brush.mm} mm`;
}

function choice(app, digit) {
  const item = app.review.items.get(app.judgedNow) || app.item;
  if (!item) return;
  const [field, values] = item.verdict === 'accept'
    ? ['certainty', ['definite', 'probable', 'possible']]
    : item.verdict === 'reject' ? ['mimic', app.session.mimics] : [];
  const value = values?.[digit - 1];
  if (value) app.choose(item.item, field, value);
}

// A voxel in the direction of the arrow on the screen.
function nudge(app, way) {
  const {viewer} = app;
  const {u, v} = PLANES[viewer.active];
  const flip = u === 1 || app.prefs.radiological ? -1 : 1;
  const to = [...viewer.position];
  if (way === 'Left') to[u] -= flip;
  if (way === 'Right') to[u] += flip;
  if (way === 'Up') to[v] += 1;
  if (way === 'Down') to[v] -= 1;
  viewer.jump(to);
}

// Around the current candidate, else around the crosshair.
function field(app) {
  const {item, viewer} = app;
  const on = !viewer.field;
  if (on && item) viewer.jump(item.ijk);
  viewer.setField(on ? FIELD_MM : null, item?.ijk);
}

async function growAt(app, point) {
  const {item} = app;
  if (!item) { banner('paint', CHOOSE()); return; }
  if (item.locked) {
    banner('paint', LOCKED());
    return;
  }
  const ijk = nearest(point, app.review.meta.dim);
  const answer = await app.review.act({event: 'grow', item: item.item, ijk,
    radius_mm: GROW_MM});
  if (answer) speak(`Grown to ${app.item?.voxels ?? 0} voxels.`);
}

async function add(app) {
  const {review, viewer} = app;
  if (app.busy) return;
  const here = review.labels.get(indexOf(viewer.position, review.meta.dim),
    app.current) || pointAt(app, viewer.position);
  if (here && review.items.has(here)) {
    banner('paint', 'The crosshair is on a candidate already: it is chosen ' +
      'now.');
    if (app.current !== here) app.choosing(here);
    return;
  }
  const before = new Set(review.items.keys());
  const answer = await app.alone({event: 'add', ijk: viewer.position,
    grow: true});
  const made = answer?.items.find((item) => !before.has(item.item));
  if (!made) return;
  app.judgedNow = made.item;
  app.go(made.item);
}

// A candidate without outline has its point all the same.
const pointAt = ({review, current}, position) =>
  [...review.items.values()].find((item) => !item.voxels &&
    String(item.ijk) === String(position) &&
    !review.labels.hides(item.item, current))?.item;

// One after the other, however fast the key is pressed.
function back(app, which) {
  app.settle();
  app.back = (app.back || Promise.resolve()).then(() => oneBack(app, which));
}

async function oneBack(app, which) {
  const {undoable, redoable} = app.review;
  if (!(which === 'undo' ? undoable : redoable)) {
    speak(`Nothing to ${which}.`);
    return;
  }
  const answer = await app.review[which]();
  if (!answer) return;
  app.judgedNow = null;
  app.viewer.refresh();
  if (app.review.items.has(answer.item)) app.go(answer.item, {quiet: true});
  else if (!app.item) app.step(1);
  speak(which === 'undo' ? 'Undone.' : 'Done again.');
}

async function save(app) {
  if (!await app.review.flush()) return;
  const {SAVE_MS, post} = await import('./api.js');
  try {
    const {files} = await post(`api/cases/${app.review.number}/save`, {},
      SAVE_MS);
    banner('finish', `Written: ${files.join(', ')}.`, {kind: 'good'});
  } catch (error) {
    banner('finish', `The mask could not be written: ${error.message}`,
      {kind: 'warn'});
  }
}

// Buttons give the focus back when the mouse has pressed them, so that the
// next key is a command and not a second press.
export function bindButtons(app) {
  const {actions} = app;
  const names = {minip: 'minip', field: 'field', window: 'window',
    outline: 'overlay', brush: 'brush', eraser: 'eraser', grow: 'grow',
    add: 'add', sweep: 'sweep', undo: 'undo', redo: 'redo',
    smaller: 'smaller', larger: 'larger'};
  for (const [id, action] of Object.entries(names)) {
    $(id).addEventListener('click', () => actions[action]());
  }
  $('slab').addEventListener('change', () => {
    app.prefer({slab: Number($('slab').value)});
    app.setSlab(true);
  });
  $('window-reset').addEventListener('click', () => {
    app.viewer.setWindow(...app.sequence.window);
    app.viewer.hooks.onWindow(...app.viewer.window);
  });
  $('sphere').checked = app.prefs.sphere;
  $('sphere').addEventListener('change', () => {
    app.brush.sphere = $('sphere').checked;
    app.prefer({sphere: app.brush.sphere});
  });
  $('dark').addEventListener('change', () => darkest(app, true));
  $('darkest').addEventListener('input', () => darkest(app, false));
  let pointer = false;
  addEventListener('pointerdown', () => { pointer = true; }, true);
  addEventListener('keydown', () => { pointer = false; }, true);
  const release = ({target}) => {
    if (pointer && target.matches?.('button, select, input:not([type=text])') &&
        !target.closest('dialog')) target.blur();
  };
  addEventListener('click', (event) => {
    const button = event.target.closest?.('button');
    if (button) release({target: button});
  });
  addEventListener('change', release);
}

// The brush takes only voxels at or below a value of the image.
function darkest(app, fresh) {
  const on = $('dark').checked;
  const slider = $('darkest');
  slider.hidden = !on;
  const [low, high] = app.firstWindow;
  if (on && fresh) {
    Object.assign(slider, {min: low, max: high, step: (high - low) / 200});
    slider.value = (low + high) / 2;
  }
  const value = Number(slider.value);
  const {slope, intercept} = app.judged;
  app.brush.darkest = on ? (value - intercept) / slope : null;
  $('darkest-value').textContent = on ? `≤ ${Number(value.toPrecision(3))}` : '';
}
