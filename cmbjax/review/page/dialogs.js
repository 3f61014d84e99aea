// Settings, notes, the end of a case, and the keys.

import {$, banner, onClick} from './dom.js';
import {SAVE_MS, get, post} from './api.js';
import {Bindings} from './bindings.js';
import {printKeys} from './keys.js';

const preferences = () => document.querySelectorAll('[data-preference]');

export class Dialogs {
  constructor(app) {
    this.app = app;
    onClick('settings-open', () => this.settings());
    onClick('notes-open', () => this.notes());
    onClick('finish-open', () => this.finish());
    onClick('done-open', () => $('done').showModal());
    for (const status of ['flagged', 'completed']) {
      onClick(status, () => this.end(status, $('finish-note').value));
    }
    onClick('finish-next', () => {
      $('finish').close();
      app.reading.choose(app.list.unread(app.reading.current) ??
        app.review.unread[0].item);
    });
    for (const box of preferences()) {
      box.addEventListener('change', () =>
        app.prefer({[box.dataset.preference]: box.checked}));
    }
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
    for (const box of preferences()) {
      box.checked = this.app.prefs[box.dataset.preference];
    }
    $('settings').showModal();
  }

  notes() {
    $('note').value = this.app.review.note || '';
    $('notes').showModal();
  }

  note(value = $('note').value) {
    const {review} = this.app;
    if (value === (review.note || '')) return;
    review.act({event: 'note', value}, () => { review.note = value; });
  }

  finish() {
    const {review} = this.app;
    const items = [...review.items.values()];
    const of = (verdict) => items.filter((item) => item.verdict === verdict);
    const added = of('accept').filter((item) => item.origin !== 'model').length;
    for (const verdict of ['accept', 'reject', 'unsure']) {
      $(`count-${verdict}`).textContent = of(verdict).length;
    }
    if (added) $('count-accept').append(`, ${added} of them added by you`);
    const {length} = review.unread;
    $('count-unread').textContent = length;
    $('counts').classList.toggle('whole', !length);
    const open = length > 0 && !review.hidden;
    $('finish-warning').textContent = review.hidden
      ? 'You have not seen the candidates yet.' : open
        ? `${length} candidate${length === 1 ? '' : 's'} not read yet.` : '';
    $('finish-note').value = review.note || '';
    $('finish-next').hidden = !open;
    const [strong, other] = open ? ['finish-next', 'completed']
      : ['completed', 'finish-next'];
    $(other).classList.remove('strong');
    $(strong).classList.add('strong');
    $('finish').showModal();
    $(strong).focus();
  }

  async end(status, note) {
    const {app} = this;
    const {review} = app;
    this.note(note);
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
    const {cases, calibrate} = await get('api/session');
    app.session.cases = cases;
    app.header.cases();
    app.header.tags();
    const next = app.session.cases.find((one) =>
      one.case !== review.number && one.status !== 'completed');
    banner('finish', `${review.meta.name} is ${status}. ` +
      (files.length ? `Written: ${files.join(', ')}. ` : '') +
      (next ? '' : 'Every case has been read. ') +
      (calibrate ? 'Enough is reviewed to choose thresholds for these scans: '
        + calibrate : ''), {kind: 'good',
      actions: next ? [[`Next: ${next.name}`, () => app.open(next.case)]] : []});
  }
}

