// What the server keeps of how a reader works, and whether another tab is open.
//
// Rule: only comfort is lost when it cannot be kept, so nothing is said.

import {post} from './api.js';
import {banner} from './dom.js';

export function keepPlace({number}, place) {
  post(`api/cases/${number}/place`, place).catch(() => {});
}

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
