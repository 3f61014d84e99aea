'use strict';
// Verdicts on the cards of this page. The state lives in localStorage under
// the result's hash, so that a new result starts afresh.
(() => {
  const scan = JSON.parse(document.getElementById('scan-data').textContent);
  const place = 'cmbjax-verdicts-' + scan.result;
  const $ = (id) => document.getElementById(id);
  const now = () => new Date().toISOString();
  const empty = () => ({started: now(), rater: '', items: {}, events: []});
  const cards = [...document.querySelectorAll('.card')];
  const byId = new Map(cards.map((card) => [card.id, card]));
  const marks = new Map(cards.map((card) => [card.id, []]));
  document.querySelectorAll('.at').forEach((at) =>
    marks.has(at.dataset.of) && marks.get(at.dataset.of).push(at));
  let state = empty();
  let kept = true; // localStorage works
  let saved = true; // nothing since the last save
  let current = null;
  let since = performance.now();

  function read() {
    try {
      const text = localStorage.getItem(place);
      if (text) state = Object.assign(empty(), JSON.parse(text));
    } catch { kept = false; }
  }

  function keep() {
    saved = false;
    try {
      localStorage.setItem(place, JSON.stringify(state));
    } catch { kept = false; }
    if (!kept) {
      say('This browser keeps nothing for this page: save before closing it.');
    }
  }

  function say(text) {
    $('message').textContent = text;
    $('message').hidden = !text;
  }

  const item = (id) => Object.assign(
    {verdict: null, mimic: null, comment: '', time: null, ms: 0},
    state.items[id]);

  function change(id, field, value, undo = false) {
    const one = item(id);
    if (one[field] === value) return;
    const time = now();
    state.events.push({time, id, field, old: one[field], new: value, undo});
    state.items[id] = Object.assign(one, {[field]: value, time});
    if (field === 'verdict' && value !== 'reject' && one.mimic !== null) {
      change(id, 'mimic', null, undo);
    }
    spend();
    keep();
    show(id);
    progress();
  }

  // Time goes to the current card; at most two minutes at a stretch, since a
  // reader who is away reads nothing.
  function spend(leaving = false) {
    const passed = Math.min(performance.now() - since, 120000);
    since = performance.now();
    if (current && (leaving || document.visibilityState === 'visible')) {
      const one = item(current.id);
      one.ms = Math.round(one.ms + passed);
      state.items[current.id] = one;
    }
  }

  function undo() {
    let skip = 0;
    for (let i = state.events.length - 1; i >= 0; i--) {
      const event = state.events[i];
      if (event.undo) { skip++; continue; }
      if (skip) { skip--; continue; }
      change(event.id, event.field, event.old, true);
      go(byId.get(event.id));
      return;
    }
  }

  function undone() {
    let open = 0;
    for (const event of state.events) open += event.undo ? -1 : 1;
    return open <= 0;
  }

  function show(id) {
    const card = byId.get(id);
    if (!card) return;
    const one = item(id);
    mark(card, one.verdict);
    marks.get(id).forEach((at) => mark(at, one.verdict));
    card.querySelectorAll('[data-verdict]').forEach((button) => {
      button.setAttribute('aria-pressed',
        String(button.dataset.verdict === one.verdict));
    });
    card.querySelectorAll('[data-mimic]').forEach((button) => {
      button.setAttribute('aria-pressed',
        String(button.dataset.mimic === one.mimic));
    });
    card.querySelector('.mimics').hidden = one.verdict !== 'reject';
    const comment = card.querySelector('.comment');
    if (comment !== document.activeElement) comment.value = one.comment;
  }

  function mark(element, verdict) {
    if (verdict) element.dataset.verdict = verdict;
    else delete element.dataset.verdict;
  }

  function progress() {
    const found = cards.filter((card) => card.dataset.status !== 'rejected');
    const all = found.length ? found : cards;
    const done = all.filter((card) => item(card.id).verdict).length;
    $('progress').textContent = done + ' of ' + all.length + ' judged';
    $('meter').style.width = (all.length ? 100 * done / all.length : 0) + '%';
    $('undo').disabled = undone();
  }

  function visible() {
    const folded = $('rejected') && !$('rejected').open;
    return [...document.querySelectorAll('.card')].filter((card) =>
      !card.hidden && !(folded && $('rejected').contains(card)));
  }

  function go(card, scroll = true) {
    if (!card) return;
    spend();
    for (const one of current ? [current, ...marks.get(current.id)] : []) {
      one.classList.remove('current');
    }
    current = card;
    const details = card.closest('details');
    if (details) details.open = true;
    card.hidden = false;
    for (const one of [card, ...marks.get(card.id)]) {
      one.classList.add('current');
    }
    if (!scroll) return;
    card.focus({preventScroll: true});
    card.scrollIntoView({block: 'nearest'});
  }

  function step(by) {
    const list = visible();
    if (!list.length) return;
    const at = list.indexOf(current);
    const next = at < 0 ? (by > 0 ? 0 : list.length - 1) : at + by;
    if (next >= 0 && next < list.length) go(list[next]);
  }

  function verdict(value, card = current) {
    if (!card) { step(1); return; }
    change(card.id, 'verdict', value);
    if (card !== current) go(card, false);
    if (value === 'accept' || value === 'unsure') step(1);
    else card.scrollIntoView({block: 'nearest'}); // mimics make it taller
  }

  function mimic(value) {
    if (!current || item(current.id).verdict !== 'reject') return;
    change(current.id, 'mimic', item(current.id).mimic === value ? null : value);
    if (item(current.id).mimic) step(1);
  }

  function arrange() {
    const by = $('sort').value;
    const value = (card) => Number(card.dataset[by]);
    for (const list of document.querySelectorAll('.cards-list')) {
      const sorted = [...list.children].sort((a, b) =>
        (by === 'order' ? value(a) - value(b) : value(b) - value(a)) ||
        a.dataset.order - b.dataset.order);
      list.append(...sorted);
    }
  }

  function filter() {
    const which = $('filter').value;
    for (const card of cards) {
      card.hidden = !(which === 'all' || which === card.dataset.status ||
        (which === 'unread' && !item(card.id).verdict));
    }
    if (which === 'rejected' && $('rejected')) $('rejected').open = true;
  }

  function flip(id, name, on) {
    const value = document.documentElement.classList.toggle(name);
    $(id).setAttribute('aria-pressed', String(value === on));
  }

  function record() {
    spend();
    const lesions = scan.lesions.map((lesion) =>
      Object.assign({}, lesion, item(lesion.id)));
    return {
      schema: scan.schema, result: scan.result, scan: scan.scan,
      subject: scan.subject, session: scan.session, source: scan.source,
      simulated: scan.simulated, cmbjax: scan.cmbjax, rater: state.rater,
      started: state.started, exported: now(), lesions, events: state.events,
    };
  }

  function save() {
    const text = JSON.stringify(record(), null, 2) + '\n';
    const url = URL.createObjectURL(
      new Blob([text], {type: 'application/json'}));
    const link = document.createElement('a');
    link.href = url;
    link.download = scan.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    saved = true;
    say('');
  }

  async function load(file) {
    let found;
    try {
      found = JSON.parse(await file.text());
    } catch { found = null; }
    if (!found || found.schema !== scan.schema ||
        !Array.isArray(found.lesions)) {
      say('This file holds no verdicts.');
    } else if (found.result !== scan.result) {
      say('These verdicts are about another result: ' + found.scan + '.');
    } else {
      state = Object.assign(empty(), {
        started: String(found.started), rater: String(found.rater || ''),
        events: Array.isArray(found.events) ? found.events : []});
      for (const one of found.lesions) {
        if (byId.has(one.id)) {
          state.items[one.id] = {
            verdict: one.verdict, mimic: one.mimic,
            comment: String(one.comment || ''), time: one.time,
            ms: Number(one.ms) || 0};
        }
      }
      say('');
      keep();
      showAll();
    }
    $('load-file').value = '';
  }

  function showAll() {
    $('rater').value = state.rater;
    cards.forEach((card) => show(card.id));
    progress();
  }

  const digits = (key) => {
    const one = document.querySelectorAll('.card:first-child [data-mimic]');
    return one[Number(key) - 1] && one[Number(key) - 1].dataset.mimic;
  };
  const KEYS = [
    [['j', 'n'], 'next lesion', () => step(1)],
    [['k', 'p'], 'previous lesion', () => step(-1)],
    [['a'], 'accept, and on to the next', () => verdict('accept')],
    [['r'], 'reject; then 1–8 says what it is', () => verdict('reject')],
    [['u'], 'unsure, and on to the next', () => verdict('unsure')],
    [['0'], 'clear the verdict', () => verdict(null)],
    [['z'], 'undo', undo],
    [['c'], 'comment; Esc leaves it',
      () => current && current.querySelector('.comment').focus()],
    [['o'], 'outlines on or off', () => flip('outline', 'no-outline', false)],
    [['f'], 'near or wide field', () => flip('zoom', 'zoomed', true)],
    [['e'], 'save the verdicts as a file', save],
    [['?'], 'this help', () => $('help').showModal()],
  ];

  function press(event) {
    const typing = event.target.closest('input[type=text], select, textarea');
    if (event.key === 'Escape' && typing) { typing.blur(); return; }
    if (typing || $('help').open || event.altKey) return;
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (key === 'z' && !event.shiftKey) { event.preventDefault(); undo(); }
      return;
    }
    const known = KEYS.find((row) => row[0].includes(key));
    if (known) {
      event.preventDefault();
      known[2]();
    } else if (/^[1-8]$/.test(key)) {
      mimic(digits(key));
    }
  }

  function listen() {
    document.addEventListener('keydown', press);
    document.addEventListener('click', (event) => {
      const card = event.target.closest('.card');
      const at = event.target.closest('.at, a[href^="#"]');
      if (at && byId.has(at.hash ? at.hash.slice(1) : at.dataset.of)) {
        event.preventDefault();
        go(byId.get(at.dataset.of || at.hash.slice(1)));
        current.scrollIntoView({block: 'start'});
        return;
      }
      if (!card) return;
      const button = event.target.closest('button');
      if (card !== current) go(card, false);
      if (button && button.dataset.verdict) {
        const same = item(card.id).verdict === button.dataset.verdict;
        change(card.id, 'verdict', same ? null : button.dataset.verdict);
      } else if (button && button.dataset.mimic) {
        const same = item(card.id).mimic === button.dataset.mimic;
        change(card.id, 'mimic', same ? null : button.dataset.mimic);
      } else if (event.target.closest('.crop')) {
        flip('zoom', 'zoomed', true);
      }
    });
    document.addEventListener('change', (event) => {
      const card = event.target.closest('.card');
      if (card && event.target.matches('.comment')) {
        change(card.id, 'comment', event.target.value);
      }
    });
    $('sort').addEventListener('change', arrange);
    $('filter').addEventListener('change', filter);
    $('outline').addEventListener('click',
      () => flip('outline', 'no-outline', false));
    $('zoom').addEventListener('click', () => flip('zoom', 'zoomed', true));
    $('undo').addEventListener('click', undo);
    $('help-open').addEventListener('click', () => $('help').showModal());
    $('save').addEventListener('click', save);
    $('load').addEventListener('click', () => $('load-file').click());
    $('load-file').addEventListener('change', (event) => {
      if (event.target.files[0]) load(event.target.files[0]);
    });
    $('rater').addEventListener('input', () => {
      state.rater = $('rater').value;
      keep();
    });
    $('show-rejected').addEventListener('change', (event) =>
      document.documentElement.classList.toggle(
        'with-rejected', event.target.checked));
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') { // others may have written
        since = performance.now();
        read();
        showAll();
      } else if (state.events.length) {
        const before = saved;
        spend(true);
        keep();
        saved = before;
      }
    });
    addEventListener('storage', (event) => { // another tab of this page
      if (event.key === place && event.newValue) { read(); showAll(); }
    });
    addEventListener('beforeunload', (event) => {
      if (!kept && !saved) event.preventDefault();
    });
  }

  function help() {
    for (const [keys, what] of KEYS) {
      const term = document.createElement('dt');
      for (const key of keys) {
        const cap = document.createElement('kbd');
        cap.textContent = key.toUpperCase();
        term.append(cap, ' ');
      }
      const meaning = document.createElement('dd');
      meaning.textContent = what;
      $('keys').append(term, meaning);
    }
  }

  document.documentElement.classList.add('scripted');
  $('tools').hidden = !cards.length;
  read();
  help();
  listen();
  showAll();
  const wanted = byId.get(decodeURIComponent(location.hash.slice(1)));
  const unread = visible().find((card) => !item(card.id).verdict);
  if (wanted) go(wanted);
  else if (unread) go(unread, false);
})();
