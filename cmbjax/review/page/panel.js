// The candidate that is being read: verdict and what belongs to it.

import {$, cap, make, press} from './dom.js';
import {bracketed, isChanged, shown} from './keys.js';
import {stateOf} from './list.js';
import {nameOf} from './names.js';

const VERDICTS = [
  ['accept', 'Accept'], ['reject', 'Reject'], ['unsure', 'Unsure'],
];
export const CERTAINTIES = ['definite', 'probable', 'possible'];
const REGIONS = ['lobar', 'deep', 'infratentorial', 'unknown'];
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
    this.host = $('candidate');
    this.shown = null;
    this.build();
  }

  build() {
    const {reading, session} = this.app;
    const button = (words, run, more = {}) =>
      make('button', {onclick: run, ...more}, words);
    this.name = make('h2', {id: 'candidate-name'});
    this.state = make('span', {class: 'state'});
    this.position = make('span', {class: 'position'});
    const sign = (id) => (shown(id) ? cap(shown(id)) : '');
    this.verdicts = VERDICTS.map(([value, words]) =>
      make('button', {class: `verdict ${value}`, data: {value},
        'aria-keyshortcuts': shown(value), onclick: () => reading.verdict(value)},
      words, sign(value)));
    this.whose = make('p', {class: 'whose', 'aria-hidden': 'true'});
    this.clear = make('button', {class: 'quiet', onclick: () =>
      reading.verdict(null)}, 'Clear ', sign('clear'));
    this.choice = make('div', {class: 'choice'});
    this.picture = make('canvas', {'aria-hidden': 'true'});
    this.last = make('div', {class: 'last', role: 'group', hidden: true,
      'aria-label': 'Last decision'});
    this.facts = make('dl', {class: 'facts'});
    this.flags = make('ul', {class: 'flags', 'aria-label': 'Warnings'});
    this.region = make('select', {id: 'region', onchange: () =>
      reading.set('region', this.region.value)},
    ...REGIONS.map((one) => make('option', {value: one}, one)));
    this.rating = make('div', {class: 'rating', role: 'group',
      'aria-label': 'Rating, 1 no microbleed to 10 surely one'},
    ...Array.from({length: 10}, (_, at) => make('button', {
      data: {rating: at + 1}, onclick: () => reading.rate(at + 1)},
    String(at + 1))));
    this.comment = make('textarea', {id: 'comment', rows: 2, maxLength: 2000,
      placeholder: `Comment${bracketed('comment')}`, 'aria-label': 'Comment',
      onchange: () => reading.set('comment', this.comment.value)});
    this.own = make('div', {class: 'own'},
      button('Move to the crosshair', () => reading.move()),
      make('button', {onclick: () => reading.remove()}, 'Remove ',
        sign('remove')));
    this.before = button('‹', () => reading.step(-1),
      {'aria-label': 'Previous candidate', title: `Previous${bracketed('previous')}`});
    this.after = button('›', () => reading.step(1),
      {'aria-label': 'Next candidate', title: `Next${bracketed('next')}`});
    this.body = make('div', {class: 'candidate-body'},
      make('div', {class: 'candidate-head'}, this.before,
        make('div', {class: 'title'}, this.name,
          make('p', {}, this.state, this.position)), this.after),
      make('div', {class: 'verdicts', role: 'group',
        'aria-label': 'Verdict'}, this.whose, ...this.verdicts),
      this.choice,
      ...(session.ratings ? [make('div', {class: 'rate'},
        make('span', {class: 'label'}, 'Rating ', sign('rating')),
        this.rating)]
        : []),
      this.flags, this.facts,
      make('div', {class: 'fields'},
        make('label', {}, 'Region ', this.region), this.clear),
      this.comment, this.own, this.last);
    this.nothing = make('div', {class: 'nothing'});
  }

  show(item, {asked, total, at, hidden, all, next}) {
    if (!item) {
      this.empty({hidden, total});
      return;
    }
    if (this.body.parentNode !== this.host) {
      this.host.replaceChildren(this.body);
    }
    this.item = item;
    this.host.dataset.state = item.verdict || 'unread';
    this.name.textContent = nameOf(item);
    this.state.textContent = stateOf(item);
    this.whose.replaceChildren(make('strong', {}, nameOf(item)),
      ` · ${stateOf(item)}`);
    this.position.textContent = at
      ? ` · ${at} of ${total}${at === total && at > 1 ? ', the last' : ''}` : '';
    for (const button of this.verdicts) {
      press(button, button.dataset.value === item.verdict);
    }
    this.clear.disabled = !item.verdict;
    this.choose(item, {all, next, other: asked && asked !== item});
    this.decided(asked && asked !== item ? asked : null);
    this.warn(item);
    this.describe(item);
    if (document.activeElement !== this.region) {
      this.region.value = item.region || 'unknown';
    }
    for (const button of this.rating.children) {
      press(button, Number(button.dataset.rating) === item.rating);
    }
    if (document.activeElement !== this.comment || this.shown !== item.item) {
      this.comment.value = item.comment || '';
    }
    this.own.hidden = item.origin === 'model';
    this.shown = item.item;
  }

  empty({hidden, total}) {
    this.item = null;
    this.shown = null;
    this.host.dataset.state = 'unread';
    const search = `sweep through the slices${bracketed('sweep')}, and add ` +
      `a lesion at the crosshair${bracketed('add')}`;
    const words = hidden
      ? `Search the images yourself first: ${search}. The candidates appear ` +
        'when you say that you are done.'
      : total ? `Press ${shown('next')} for the first candidate.`
        : `Nothing was found in this scan: ${search}.`;
    const done = make('button', {class: 'strong wide',
      onclick: () => this.app.dialogs.askDone()}, 'Done: show the candidates');
    this.nothing.replaceChildren(make('h2', {id: 'candidate-name'},
      hidden ? 'Your own search' : 'No candidate chosen'),
    make('p', {}, words), hidden ? done : '');
    this.host.replaceChildren(this.nothing);
  }

  // Certainty or kind of mimic of the current one.
  choose(item, {all, next, other}) {
    const {values} = this.asks(item);
    const key = [item.item, item.verdict, item.certainty, item.mimic, all,
      next, other].join();
    if (this.choice.dataset.key === key) return;
    this.choice.dataset.key = key;
    this.choice.classList.toggle('calm', !values.length);
    this.choice.hidden = Boolean(other) && !values.length;
    if (values.length) {
      const hint = other ? '' : next ? `1–${values.length}, or ` +
        shown('next') : chosenBy(values);
      this.choice.replaceChildren(...this.question(item, hint, 'asked'));
      return;
    }
    this.choice.replaceChildren(make('p', {class: 'asked'}, !all
      ? 'A verdict leads on to the next unread candidate.'
      : 'All candidates are read. Sweep for missed ones' +
        `${bracketed('sweep')}, or finish.`));
  }

  // The one judged just before, apart from the one that is shown now.
  decided(item) {
    const key = item && [item.item, nameOf(item), item.verdict, item.certainty,
      item.mimic].join();
    this.last.hidden = !item;
    if (!item || this.last.dataset.key === key) return;
    Object.assign(this.last.dataset, {key, state: item.verdict || 'unread'});
    const {values} = this.asks(item);
    this.last.replaceChildren(
      make('div', {class: 'last-head'}, this.picture,
        make('p', {}, make('span', {class: 'label'}, 'Last decision'),
          make('strong', {}, `${nameOf(item)} · ${stateOf(item)}`)),
        make('button', {class: 'quiet', onclick: () =>
          this.app.reading.choose(item.item)}, 'Back')),
      ...(values.length ? this.question(item, chosenBy(values),
        'asked-last') : []));
    this.app.list.crops.now(this.picture, item.ijk);
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
    this.flags.replaceChildren(...words.map((one) => make('li', {}, one)));
    this.flags.hidden = !words.length;
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
    this.facts.replaceChildren(...rows.flatMap(([name, value]) =>
      [make('dt', {}, name), make('dd', {}, value)]));
  }
}
