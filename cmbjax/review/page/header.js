// What is above the images: case, progress, and whether all is saved.

import {$, banner, make, speak} from './dom.js';
import {renew} from './api.js';

const WORDS = {saved: 'Saved', saving: 'Saving', failed: 'Not saved'};

export class Header {
  constructor(app) {
    this.app = app;
    this.last = '';
    $('case').addEventListener('change', () => app.open(
      Number($('case').value)));
  }

  cases() {
    const {session, review} = this.app;
    const now = review.number;
    $('case').replaceChildren(...session.cases.map((one) => {
      const mark = {completed: '✓ ', flagged: '⚑ ', 'in progress': '◐ '};
      return make('option', {value: one.case, title: one.problem || ''},
        one.problem ? `⚠ ${one.name} (damaged)`
          : (mark[one.status] || '') + one.name);
    }));
    this.problems();
    $('case').value = String(now);
    const at = session.cases.findIndex((one) => one.case === now);
    $('case-before').disabled = at <= 0;
    $('case-after').disabled = at >= session.cases.length - 1;
  }

  // Said once, however often the cases are read again.
  problems() {
    const words = this.app.session.cases.filter((one) => one.problem)
      .map((one) => `${one.name} cannot be opened: ${one.problem}`).join(' ');
    if (words === (this.damage || '')) return;
    this.damage = words;
    banner('problems', words, {kind: 'warn'});
  }

  tags() {
    const {session, review} = this.app;
    const {meta} = review;
    const how = [review.hidden ? 'First reader'
      : session.blind?.includes('score') ? 'Blinded' : '',
    session.adjudicates ? 'Adjudication' : '',
    session.order === 'random' ? 'Random order' : ''].filter(Boolean);
    const tags = [['simulated', meta.simulated ? 'Simulated scan' : ''],
      ['good', review.status === 'completed' ? 'Completed' : ''],
      ['warn', review.status === 'flagged' ? 'Flagged' : ''],
      ['how', how.join(' · ')]]; // the last one gives way
    $('tags').replaceChildren(...tags.filter(([, words]) => words)
      .map(([kind, words]) => make('li', {class: kind, title: words}, words)));
    document.title = `${meta.name} · review · cmbjax`;
  }

  show() {
    const {review} = this.app;
    const all = [...review.items.values()];
    const read = all.length - review.unread.length;
    $('progress').textContent = review.hidden
      ? `${all.length} marked` : `${read} of ${all.length} read`;
    $('meter').style.width = all.length ? `${100 * read / all.length}%` : '0';
    $('done-open').hidden = !review.hidden;
    $('undo').disabled = !review.undoable;
    $('redo').disabled = !review.redoable;
    this.saved();
  }

  saved() {
    const {review} = this.app;
    const {state} = review;
    const place = $('saved');
    place.dataset.state = state;
    // Only a change of state is worth saying aloud; revisions are not.
    place.setAttribute('aria-live', state === this.last ? 'off' : 'polite');
    const rev = ` · rev ${review.rev}`;
    if (place.textContent !== WORDS[state] + rev) {
      place.replaceChildren(WORDS[state], make('span', {class: 'rev'}, rev));
    }
    if (state !== this.last) this.trouble(review.failure);
    else if (state === 'failed') this.trouble(review.failure);
    this.last = state;
  }

  // A clear word when the server is away, the disk full, or the link old.
  trouble(failure) {
    const {review} = this.app;
    const key = failure ? `${failure.status} ${failure.message}` : '';
    if (this.told === key) return;
    if (!failure && this.told) speak('All changes are saved again.');
    this.told = key;
    if (!failure) { banner('save', ''); return; }
    const why = failure.status === 0
      ? 'The server does not answer.' : failure.message;
    const actions = [['Try now', () => review.retry()]];
    if (failure.status === 403) actions.push(['Enter new link', () =>
      this.relink()]);
    banner('save', `${why} Your changes are kept here and are sent again by ` +
      'themselves; leave this page open.' + (failure.status === 403
      ? ' The server was started again: it has printed a new link.' : ''),
    {kind: 'bad', actions});
  }

  relink() {
    const input = make('input', {type: 'text', id: 'link', autocomplete: 'off',
      'aria-label': 'New link'});
    const go = async () => {
      try {
        await renew(input.value);
        this.told = null;
        this.app.review.retry();
      } catch (error) { input.setCustomValidity(error.message);
        input.reportValidity(); }
    };
    input.addEventListener('input', () => input.setCustomValidity(''));
    input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') go();
    });
    const strip = banner('save', 'Paste the new link that the server has ' +
      'printed. Your changes are kept.', {kind: 'bad',
      actions: [['Connect', go]]});
    strip.querySelector('p').after(input);
    input.focus();
  }
}
