// What keys and buttons do: the name of an action in keys.js to a function.

import {$, banner, onClick, press, speak} from './dom.js';
import {SAVE_MS, post} from './api.js';

const FIELD_MM = 60;

export function actionsOf(app) {
  const {reading, painting, viewer, sweep} = app;
  const overlay = () => {
    app.shows.overlay = !app.shows.overlay;
    viewer.setOverlay({shown: app.shows.overlay});
    press($('outline'), app.shows.overlay);
  };
  return {
    accept: () => reading.verdict('accept'),
    reject: () => reading.verdict('reject'),
    unsure: () => reading.verdict('unsure'),
    clear: () => reading.verdict(null),
    choice: (digit) => reading.answer(Number(digit)),
    comment: () => document.getElementById('comment')?.focus(),
    rating: () => {
      reading.rating = Boolean(reading.item);
      speak('Rating: press 1 to 9, or 0 for 10.');
    },
    next: () => (reading.asking ? reading.goOn() : reading.step(1)),
    previous: () => reading.step(-1),
    nextCase: () => app.stepCase(1),
    previousCase: () => app.stepCase(-1),
    sweep: () => sweep.toggle(),
    play: () => sweep.play(),
    sliceUp: () => viewer.step(1),
    sliceDown: () => viewer.step(-1),
    nudge: (way) => viewer.nudge(way),
    sequence: (slot) => app.sequences.key(slot),
    minip: () => app.setSlab(!viewer.slab),
    field: () => field(app),
    home: () => reading.home(),
    window: () => painting.toggle('window'),
    crosshair: () => {
      app.shows.crosshair = !app.shows.crosshair;
      viewer.setOptions({crosshair: app.shows.crosshair});
    },
    overlay,
    peek: () => viewer.setOverlay({shown: false}),
    unpeek: () => viewer.setOverlay({shown: app.shows.overlay}),
    brush: () => painting.toggle('brush'),
    eraser: () => painting.toggle('eraser'),
    grow: () => painting.toggle('grow'),
    smaller: () => painting.resize(-1),
    larger: () => painting.resize(1),
    add: () => reading.add(),
    remove: () => reading.remove(),
    undo: () => reading.back('undo'),
    redo: () => reading.back('redo'),
    save: () => save(app),
    help: () => $('help').showModal(),
    leave: () => {
      reading.rating = false;
      if (viewer.tool) painting.take(null);
      else if (reading.asking) reading.goOn();
      else if (sweep.on) sweep.toggle();
    },
  };
}

// Around the current candidate, else around the crosshair.
function field({reading: {item}, viewer}) {
  const on = !viewer.field;
  if (on && item) viewer.jump(item.ijk);
  viewer.setField(on ? FIELD_MM : null, item?.ijk);
}

async function save({review}) {
  if (!await review.flush()) return;
  try {
    const {files} = await post(`api/cases/${review.number}/save`, {}, SAVE_MS);
    banner('finish', `Written: ${files.join(', ')}.`, {kind: 'good'});
  } catch (error) {
    banner('finish', `The mask could not be written: ${error.message}`,
      {kind: 'warn'});
  }
}

// A button says in `data-key` which action it is.
export function bindButtons(app) {
  addEventListener('click', ({target}) => {
    const button = target.closest?.('button[data-key]');
    if (button) app.actions[button.dataset.key]();
  });
  $('slab').addEventListener('change', () => {
    app.prefer({slab: Number($('slab').value)});
    app.setSlab(true);
  });
  onClick('window-reset', () => {
    app.viewer.setWindow(...app.sequence.window);
    app.viewer.hooks.onWindow();
  });
  giveFocusBack();
}

// Buttons give the focus back when the mouse has pressed them, so that the
// next key is a command and not a second press.
function giveFocusBack() {
  let pointer = false;
  addEventListener('pointerdown', () => { pointer = true; }, true);
  addEventListener('keydown', () => { pointer = false; }, true);
  const release = (target) => {
    if (pointer && target?.matches('button, select, input:not([type=text])') &&
        !target.closest('dialog')) target.blur();
  };
  addEventListener('click', ({target}) => release(target.closest?.('button')));
  addEventListener('change', ({target}) => release(target));
}
