// The list of candidates: crops, order, what is shown, what is unread.

import {$, make} from './dom.js';
import {Crops} from './crops.js';
import {nameOf} from './names.js';
import {showImages} from './phone.js';

const SORTS = {
  order: ['as given', (item) => item.item],
  score: ['likeliest first', (item) => -(item.score ?? -1)],
  size: ['size', (item) => -item.volume_mm3],
  height: ['top to bottom', (item) => -item.mm[2]],
};
const FILTERS = {
  all: ['all', () => true],
  unread: ['unread', (item) => !item.verdict],
  accept: ['accepted', (item) => item.verdict === 'accept'],
  reject: ['rejected', (item) => item.verdict === 'reject'],
  unsure: ['unsure', (item) => item.verdict === 'unsure'],
  definite: ['definite only', (item) => item.status === 'definite'],
  added: ['added by me', (item) => item.origin !== 'model'],
};
const STATES = {accept: 'accepted', reject: 'rejected', unsure: 'unsure'};

export const stateOf = (item) => STATES[item.verdict] || 'unread';

export class List {
  constructor(choose, changed) {
    Object.assign(this, {choose, changed, rows: new Map(), order: []});
    this.crops = new Crops($('rows'));
    this.sort = 'order';
    this.filter = 'all';
    $('rows').addEventListener('click', (event) => {
      const row = event.target.closest('[data-item]');
      if (!row) return;
      choose(Number(row.dataset.item));
      showImages();
    });
    for (const id of ['sort', 'filter']) {
      $(id).addEventListener('change', () => {
        this[id] = $(id).value;
        this.show(this.items, this.current);
        changed();
      });
    }
  }

  // The choices of this case: nothing is sorted by what is hidden. A quiet
  // list lays no two candidates side by side: no pictures, sizes and orders.
  offer(items, {sort = 'order', filter = 'all', quiet = false} = {}) {
    this.quiet = Boolean(quiet);
    $('list').classList.toggle('quiet', this.quiet);
    const scored = [...items.values()].some((item) => item.score !== null);
    const stated = [...items.values()].some((item) => item.status);
    const may = (key) => (key !== 'score' || scored) &&
      (key !== 'definite' || stated) &&
      (!this.quiet || (key !== 'size' && key !== 'height'));
    const options = (table) => Object.entries(table)
      .filter(([key]) => may(key))
      .map(([key, [words]]) => make('option', {value: key}, words));
    $('sort').replaceChildren(...options(SORTS));
    $('filter').replaceChildren(...options(FILTERS));
    this.sort = SORTS[sort] && may(sort) ? sort : 'order';
    this.filter = FILTERS[filter] && may(filter) ? filter : 'all';
    $('sort').value = this.sort;
    $('filter').value = this.filter;
    for (const row of this.rows.values()) this.crops.forget(row.canvas);
    this.rows.clear();
    $('rows').replaceChildren();
  }

  show(items, current, hidden = this.hidden) {
    Object.assign(this, {items, current, hidden});
    const value = SORTS[this.sort][1];
    const all = [...items.values()].sort((one, other) =>
      value(one) - value(other) || one.item - other.item);
    // The current one stays in sight, also when it has just been read.
    const kept = all.filter((item) =>
      FILTERS[this.filter][1](item) || item.item === current);
    this.order = all.map((item) => item.item);
    this.shown = kept.map((item) => item.item);
    for (const [number, row] of this.rows) {
      if (items.has(number)) continue;
      this.crops.forget(row.canvas);
      row.line.remove();
      this.rows.delete(number);
    }
    const lines = kept.map((item) => this.row(item));
    const host = $('rows');
    if (lines.length !== host.children.length ||
        lines.some((line, at) => host.children[at] !== line)) {
      host.replaceChildren(...lines);
    }
    $('list-empty').hidden = kept.length > 0 && !hidden;
    $('list-empty').textContent = hidden
      ? 'Candidates are hidden until you say done.' : items.size
        ? 'No candidate of this kind.' : 'No candidates in this case.';
  }

  row(item) {
    let row = this.rows.get(item.item);
    if (!row) {
      const canvas = make('canvas', {'aria-hidden': 'true'});
      const name = make('span', {class: 'name'});
      const state = make('span', {class: 'state'});
      const facts = make('span', {class: 'facts'});
      const button = make('button', {class: 'row', data: {item: item.item}},
        canvas, make('span', {class: 'words'}, name, state, facts));
      row = {canvas, name, state, facts, button,
        line: make('li', {}, button), ijk: ''};
      this.rows.set(item.item, row);
    }
    const mine = item.item === this.current;
    const key = [nameOf(item), item.verdict, item.origin, item.ijk,
      this.quiet, facts(item), mine, Boolean(this.current)].join();
    if (row.key === key) return row.line; // hundreds of rows do not change
    row.key = key;
    row.name.textContent = nameOf(item);
    row.state.textContent = stateOf(item);
    row.button.dataset.state = item.verdict || 'unread';
    row.button.tabIndex = mine || (!this.current && item === this.items.values()
      .next().value) ? 0 : -1;
    if (mine) row.button.setAttribute('aria-current', 'true');
    else row.button.removeAttribute('aria-current');
    row.facts.textContent = this.quiet ? '' : facts(item);
    if (!this.quiet && row.ijk !== String(item.ijk)) {
      row.ijk = String(item.ijk);
      this.crops.add(row.canvas, item.ijk);
    }
    return row.line;
  }

  // Within the list only: on a phone the images must not scroll away.
  reveal() {
    const line = this.rows.get(this.current)?.line;
    const host = $('rows');
    if (!line?.isConnected || host.scrollHeight <= host.clientHeight) return;
    const [row, box] = [line, host].map((one) => one.getBoundingClientRect());
    if (row.top < box.top) host.scrollTop -= box.top - row.top;
    if (row.bottom > box.bottom) host.scrollTop += row.bottom - box.bottom;
  }

  // The neighbour of a candidate among those that are shown.
  beside(number, by) {
    const at = this.shown.indexOf(number);
    if (at < 0) return by > 0 ? this.shown[0] : this.shown.at(-1);
    return this.shown[at + by];
  }

  // The unread one that follows, from the top again after the end.
  unread(number) {
    const at = this.order.indexOf(number);
    const round = [...this.order.slice(at + 1), ...this.order.slice(0, at + 1)];
    return round.find((one) => !this.items.get(one).verdict);
  }
}

function facts(item) {
  const words = [];
  if (item.score !== null && item.score !== undefined) {
    words.push(`${Math.round(item.score * 100)} %`);
  }
  if (item.region && item.region !== 'unknown') words.push(item.region);
  if (item.voxels) words.push(`${item.diameter_mm.toFixed(1)} mm`);
  return words.join(' · ');
}
