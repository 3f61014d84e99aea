// Settings, notes, the end of a case, and the keys.

import {$, banner, make, onClick} from './dom.js';
import {SAVE_MS, get, post} from './api.js';
import {Bindings} from './bindings.js';
import {printKeys} from './keys.js';

const count = (number, word) => `${number} ${word}${number === 1 ? '' : 's'}`;

export class Dialogs {
  constructor(app) {
    this.app = app;
    onClick('settings-open', () => this.settings());
    onClick('notes-open', () => this.notes());
    onClick('finish-open', () => this.finish());
    onClick('done-open', () => $('done').showModal());
    $('note').addEventListener('change', () => this.note());
    $('notes').addEventListener('close', () => this.note());
    $('done').addEventListener('close', () => {
      if ($('done').returnValue === 'yes') app.done();
      $('done').returnValue = '';
    });
    this.bindings = new Bindings(app.session.ratings, (keys) =>
      app.bound(keys));
    for (const id of ['keys-change', 'settings-keys']) {
      onClick(id, () => {
        document.querySelector('dialog[open]').close();
        this.bindings.open();
      });
    }
  }

  keys() { printKeys($('keys'), this.app.session.ratings); }

  settings() {
    const {app} = this;
    const {prefs} = app;
    const check = (key, words, why) => make('label', {class: 'setting'},
      make('input', {type: 'checkbox', checked: prefs[key],
        onchange: (event) => app.prefer({[key]: event.target.checked})}),
      make('span', {}, words, make('small', {}, why)));
    $('settings-body').replaceChildren(
      check('radiological', 'Radiological display',
        'Right of the patient on the left of the screen.'),
      check('smooth', 'Smooth pixels', 'Otherwise voxels stay crisp.'),
      check('fill', 'Filled outlines', 'Tints the voxels as well.'),
      check('advance', 'Go on after a verdict', 'To the next unread one.'),
      check('ask', 'Stop for certainty and kind',
        'A verdict waits for 1–8 before it goes on.'));
    $('settings').showModal();
  }

  notes() {
    $('note').value = this.app.review.note || '';
    $('notes').showModal();
  }

  note() {
    const {review} = this.app;
    const value = $('note').value;
    if (value === (review.note || '')) return;
    review.act({event: 'note', value}, () => { review.note = value; });
  }

  finish() {
    const {app} = this;
    const {review} = app;
    const items = [...review.items.values()];
    const of = (verdict) => items.filter((item) => item.verdict === verdict);
    const added = of('accept').filter((item) => item.origin !== 'model').length;
    const {unread} = review;
    const rows = [['Accepted', `${of('accept').length}` +
      (added ? `, ${added} of them added by you` : '')],
    ['Rejected', of('reject').length], ['Unsure', of('unsure').length]];
    if (unread.length) rows.push(['Unread', unread.length]);
    const note = make('textarea', {rows: 3, maxLength: 4000,
      value: review.note || '', 'aria-label': 'Notes on this case',
      placeholder: 'Notes on this case'});
    const open = unread.length > 0 && !review.hidden;
    const strong = {class: 'strong', autofocus: true};
    const end = (status) => this.end(status, note.value);
    const button = (words, run, more = {}) =>
      make('button', {type: 'button', onclick: run, ...more}, words);
    $('finish-body').replaceChildren(
      make('dl', {class: 'counts'}, ...rows.flatMap(([name, value]) =>
        [make('dt', {}, name), make('dd', {}, String(value))])),
      review.hidden ? make('p', {class: 'warning'}, 'You have not seen the ' +
        'candidates yet.') : '',
      unread.length && !review.hidden ? make('p', {class: 'warning'},
        `${count(unread.length, 'candidate')} not read yet.`) : '', note,
      make('div', {class: 'ends'},
        button('Back', () => $('finish').close(), {class: 'quiet'}),
        button('Flag for later', () => end('flagged')),
        button('Complete the case', () => end('completed'),
          open ? {} : strong),
        open ? button('Go to next unread', () => {
          $('finish').close();
          app.reading.choose(app.list.unread(app.reading.current) ??
            unread[0].item);
        }, strong) : ''));
    $('finish').showModal();
  }

  async end(status, note) {
    const {app} = this;
    const {review} = app;
    if (note !== (review.note || '')) {
      review.act({event: 'note', value: note}, () => { review.note = note; });
    }
    app.sweep.report();
    const ended = review.act({event: 'status', value: status}, () => {
      review.status = status;
    });
    $('finish').close();
    if (!await review.flush() || !await ended) return;
    let files = [];
    try {
      ({files} = await post(`api/cases/${review.number}/save`, {},
        SAVE_MS));
    } catch (error) {
      banner('finish', `The case is ${status}, but its mask could not be ` +
        `written: ${error.message}`, {kind: 'bad',
        actions: [['Close', () => banner('finish', '')]]});
      return;
    }
    app.session.cases = (await get('api/session')).cases;
    app.header.cases();
    app.header.tags();
    const next = app.session.cases.find((one) =>
      one.case !== review.number && one.status !== 'completed');
    banner('finish', `${review.meta.name} is ${status}. ` +
      (files.length ? `Written: ${files.join(', ')}. ` : '') +
      (next ? '' : 'Every case has been read.'), {kind: 'good',
      actions: next ? [[`Next: ${next.name}`, () => app.open(next.case)]] : []});
  }
}

