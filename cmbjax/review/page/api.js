// HTTP to the local server: relative addresses, the token in a header.

const PATIENCE_MS = 30000;
export const SAVE_MS = 120000; // a mask on a slow disk
const SHORT = 16000; // a browser keeps 64 kB in all
let token = document.querySelector('meta[name=cmb-token]').content;

export class Refused extends Error {
  constructor(status, message, body = {}) {
    super(message);
    this.status = status; // 0: no answer at all
    this.body = body;
  }
}

async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, {
      credentials: 'same-origin', cache: 'no-store', ...options,
      headers: {...options.headers, 'x-cmb-token': token}});
  } catch {
    throw new Refused(0, 'The server does not answer.');
  }
  if (answer.ok) return answer;
  let body = {};
  try { body = await answer.json(); } catch { /* not ours */ }
  throw new Refused(answer.status,
    body.error || `The server answered ${answer.status}.`, body);
}

export const get = async (address) => (await ask(address)).json();

// A short one still goes out when the page is left. One that nobody answers,
// as after a night's sleep of the computer, is given up.
export async function post(address, body, patience = PATIENCE_MS) {
  const text = JSON.stringify(body);
  const answer = await ask(address, {
    method: 'POST', body: text, keepalive: text.length < SHORT,
    signal: AbortSignal.timeout(patience),
    headers: {'content-type': 'application/json'}});
  return answer.json();
}

// Raw bytes; `progress` hears the share that has come, `headers` the headers.
export async function bytes(address, {progress = () => {},
  headers = () => {}} = {}) {
  const answer = await ask(address);
  headers(answer.headers);
  const size = Number(answer.headers.get('content-length'));
  if (!size || !answer.body) return answer.arrayBuffer();
  const whole = new Uint8Array(size);
  const reader = answer.body.getReader();
  let at = 0;
  try {
    for (;;) {
      const {done, value} = await reader.read();
      if (done) break;
      whole.set(value, at);
      at += value.length;
      progress(at / size);
    }
  } catch {
    throw new Refused(0, 'The connection broke off.');
  }
  if (at !== size) throw new Refused(0, 'The connection broke off.');
  return whole.buffer;
}

// After a restart the server has a new token: its link brings it, and the
// cookie with it.
export async function renew(link) {
  const found = /[?&]token=([^&#\s]+)/.exec(link);
  const fresh = decodeURIComponent(found ? found[1] : link.trim());
  await ask(`./?token=${encodeURIComponent(fresh)}`);
  token = fresh;
}
