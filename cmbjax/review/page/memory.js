// What the browser keeps from visit to visit, and whether another tab is open.

import {banner} from './dom.js';
import {post} from './api.js';

const PREFIX = 'cmbjax-review:';

export function remembered(key) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + key)) || {};
  } catch {
    return {};
  }
}

// Also on the server where it offers a place: its port changes from start to
// start, and with it what the browser finds again.
export function remember(key, value, review = null) {
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify(value));
  } catch { /* storage is full or off: only comfort is lost */ }
  if (review?.meta && 'place' in review.meta) {
    post(`api/cases/${review.number}/place`, value).catch(() => {});
  }
}

// How a reader likes the page: one file on the server for all cases, since the
// next session has another address. Only comfort is lost without it.
let last = null; // of several, the last one counts
let sending = false;

export async function keepSettings({prefs, keys}) {
  last = {prefs, keys};
  if (sending) return;
  sending = true;
  while (last) {
    const now = last;
    last = null;
    await post('api/settings', now).catch(() => {});
  }
  sending = false;
}

// Other tabs of this reader: each hears what the others have done.
export function watchTabs({session, review}) {
  const channel = new BroadcastChannel(`cmbjax-review:${session.rater}`);
  review.addEventListener('done', () =>
    channel.postMessage({number: review.number, rev: review.rev}));
  channel.onmessage = ({data}) => {
    if (data.rev) { review.follow(data); return; }
    if (data === 'opened') channel.postMessage('already here');
    banner('tabs', 'This review is open in another tab as well. Work in one ' +
      'of them: what a tab does on an old state is not saved.',
    {kind: 'warn'});
  };
  channel.postMessage('opened');
}
