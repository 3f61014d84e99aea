// Elements from plain descriptions. Text is always text, never markup.

export const $ = (id) => document.getElementById(id);

export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === 'data') Object.assign(element.dataset, value);
    else if (key.startsWith('on')) {
      element.addEventListener(key.slice(2), value);
    } else if (key === 'class') element.className = value;
    else if (key in element && !key.startsWith('aria')) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((one) => one !== null && one !== ''));
  return element;
}

export const onClick = (id, run) => $(id).addEventListener('click', run);

export const cap = (key) => make('kbd', {}, key);

export function press(element, on) {
  element.setAttribute('aria-pressed', String(Boolean(on)));
}

// For those who listen: said once, shown nowhere.
export function speak(words) { $('spoken').textContent = words; }

// A strip under the header. One per key; empty words take it away.
export function banner(key, words, {kind = 'note', actions = []} = {}) {
  $('banners').querySelector(`[data-key="${key}"]`)?.remove();
  if (!words) return null;
  const strip = make('div', {class: `banner ${kind}`, data: {key},
    role: kind === 'bad' ? 'alert' : 'status'}, make('p', {}, words));
  for (const [name, run] of actions) {
    strip.append(make('button', {onclick: run}, name));
  }
  if (kind !== 'bad') {
    strip.append(make('button', {class: 'close', 'aria-label': 'Dismiss',
      onclick: () => strip.remove()}, '×'));
  }
  $('banners').append(strip);
  return strip;
}
