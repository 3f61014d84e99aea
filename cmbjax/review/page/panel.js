// The candidate that is being read: verdict and what belongs to it.

import {$, make, onClick, press} from './dom.js';
import {bracketed, isChanged, shown} from './keys.js';
import {stateOf} from './list.js';
import {nameOf} from './names.js';

const CERTAINTIES = ['definite', 'probable', 'possible'];
const FLAGS = {
  edge: 'touches the edge of the image',
  large: 'more than 10 mm across',
  elongated: 'elongated',
  'no outline': 'has no outline',
};
// The keys of a choice, where they are the usual ones.
const chosenBy = (values) => (values.some((_, at) =>
  isChanged(`choice${at + 1}`)) ? '' : `⇧ 1–${values.length}`);
const plain = (word) => word.replaceAll('_', ' ');

export class Panel {
  constructor(app) {
    this.app = app;
    this.shown = null;
    const {reading} = app;
    $('rate').hidden = !app.session.ratings;
    $('rating').replaceChildren(...Array.from({length: 10}, (_, at) =>
      make('button', {onclick: () => reading.rate(at + 1)}, String(at + 1))));
    $('region').addEventListener('change', () =>
      reading.set('region', $('region').value));
    $('comment').addEventListener('change', () =>
      reading.set('comment', $('comment').value));
    onClick('move', () => reading.move());
    onClick('search-done', () => $('done').showModal());
    onClick('last-back', () => reading.choose(this.last));
    this.keys();
  }

  // The keys that are bound, where the panel says them.
  keys() {
    for (const button of document.querySelectorAll('.verdict')) {
      button.setAttribute('aria-keyshortcuts', shown(button.dataset.key));
    }
    $('comment').placeholder = `Comment${bracketed('comment')}`;
  }

  show(item, {asked, total, at, hidden, all, next}) {
    $('nothing').hidden = Boolean(item);
    $('candidate-body').hidden = !item;
    $('candidate').setAttribute('aria-labelledby',
      item ? 'candidate-name' : 'nothing-name');
    $('candidate').dataset.state = item?.verdict || 'unread';
    if (!item) {
      this.shown = null;
      this.empty({hidden, total});
      return;
    }
    $('candidate-name').textContent = nameOf(item);
    $('candidate-state').textContent = stateOf(item);
    $('whose').replaceChildren(make('strong', {}, nameOf(item)),
      ` · ${stateOf(item)}`);
    $('position').textContent = at
      ? ` · ${at} of ${total}${at === total && at > 1 ? ', the last' : ''}` : '';
    for (const button of document.querySelectorAll('.verdict')) {
      press(button, button.dataset.key === item.verdict);
    }
    $('clear').disabled = !item.verdict;
    this.choose(item, {all, next, other: asked && asked !== item});
    this.decided(asked && asked !== item ? asked : null);
    this.warn(item);
    this.describe(item);
    if (document.activeElement !== $('region')) {
      $('region').value = item.region || 'unknown';
    }
    [...$('rating').children].forEach((button, place) =>
      press(button, place + 1 === item.rating));
    if (document.activeElement !== $('comment') || this.shown !== item.item) {
      $('comment').value = item.comment || '';
    }
    $('own').hidden = item.origin === 'model';
    this.shown = item.item;
  }

  empty({hidden, total}) {
    const search = `sweep through the slices${bracketed('sweep')}, and add ` +
      `a lesion at the crosshair${bracketed('add')}`;
    $('nothing-name').textContent = hidden
      ? 'Your own search' : 'No candidate chosen';
    $('nothing-why').textContent = hidden
      ? `Search the images yourself first: ${search}. The candidates appear ` +
        'when you say that you are done.'
      : total ? `Press ${shown('next')} for the first candidate.`
        : `Nothing was found in this scan: ${search}.`;
    $('search-done').hidden = !hidden;
  }

  // Certainty or kind of mimic of the current one.
  choose(item, {all, next, other}) {
    const {values} = this.asks(item);
    const key = [item.item, item.verdict, item.certainty, item.mimic, all,
      next, other].join();
    if ($('choice').dataset.key === key) return;
    $('choice').dataset.key = key;
    $('choice').classList.toggle('calm', !values.length);
    $('choice').hidden = Boolean(other) && !values.length;
    if (values.length) {
      const hint = other ? '' : next ? `1–${values.length}, or ` +
        shown('next') : chosenBy(values);
      $('choice').replaceChildren(...this.question(item, hint, 'asked'));
      return;
    }
    $('choice').replaceChildren(make('p', {class: 'asked'}, !all
      ? 'A verdict leads on to the next unread candidate.'
      : 'All candidates are read. Sweep for missed ones' +
        `${bracketed('sweep')}, or finish.`));
  }

  // The one judged just before, apart from the one that is shown now.
  decided(item) {
    const key = item && [item.item, nameOf(item), item.verdict, item.certainty,
      item.mimic].join();
    $('last').hidden = !item;
    if (!item || $('last').dataset.key === key) return;
    this.last = item.item;
    Object.assign($('last').dataset, {key, state: item.verdict || 'unread'});
    $('last-name').textContent = `${nameOf(item)} · ${stateOf(item)}`;
    const {values} = this.asks(item);
    $('last-question').replaceChildren(...(values.length
      ? this.question(item, chosenBy(values), 'asked-last') : []));
    this.app.list.crops.now($('last-picture'), item.ijk);
  }

  asks({verdict}) {
    if (verdict === 'accept') {
      return {field: 'certainty', values: CERTAINTIES, words: 'How sure?'};
    }
    return {field: 'mimic', words: 'What is it?',
      values: verdict === 'reject' ? this.app.session.mimics : []};
  }

  question(item, hint, id) {
    const {field, values, words} = this.asks(item);
    return [
      make('p', {class: 'asked', id}, make('span', {}, words),
        make('span', {class: 'hint'}, hint)),
      make('div', {class: 'chips', role: 'group', 'aria-labelledby': id},
        ...values.map((value, at) => {
          const chip = make('button', {class: 'chip', onclick: () =>
            this.app.reading.toggle(item.item, field, value)},
          make('i', {'aria-hidden': 'true'}, String(at + 1)), plain(value));
          press(chip, item[field] === value);
          return chip;
        }))];
  }

  warn(item) {
    const words = (item.flags || []).map((flag) => FLAGS[flag] || flag);
    if (item.locked) words.push('outline locked while it is rejected');
    $('flags').replaceChildren(...words.map((one) => make('li', {}, one)));
    $('flags').hidden = !words.length;
  }

  describe(item) {
    const rows = [];
    if (item.score !== null && item.score !== undefined) {
      rows.push(['Likelihood', `${(item.score * 100).toFixed(0)} %` +
        (item.status ? `, ${item.status}` : '')]);
    }
    if (item.id) rows.push(['Name', item.id]);
    rows.push(['Diameter', item.voxels
      ? `${item.diameter_mm.toFixed(1)} mm` : '–']);
    rows.push(['Volume', item.voxels
      ? `${item.volume_mm3.toFixed(1)} mm³ (${item.voxels} voxels)` : '–']);
    rows.push(['Centre', item.mm.map((one) => one.toFixed(1)).join(', ') +
      ' mm']);
    if (item.evidence) rows.push(['Evidence', item.evidence]);
    $('facts').replaceChildren(...rows.flatMap(([name, value]) =>
      [make('dt', {}, name), make('dd', {}, value)]));
  }
}
