// Small screens: what is out of sight is hinted at, and the list folds.

import {$} from './dom.js';

const SMALL = matchMedia('(max-width: 56rem)');

// A row that scrolls fades where more of it follows.
function fade(row) {
  const look = () => row.classList.toggle('more',
    row.scrollWidth - row.scrollLeft - row.clientWidth > 4);
  row.addEventListener('scroll', look, {passive: true});
  new ResizeObserver(look).observe(row);
  new MutationObserver(look).observe(row, {childList: true, subtree: true});
  look();
}

function fold(open) {
  $('list').classList.toggle('open', open);
  $('list-fold').setAttribute('aria-expanded', String(open));
}

export function fitPhones() {
  fade(document.querySelector('.tools'));
  $('list-fold').addEventListener('click', () =>
    fold(!$('list').classList.contains('open')));
  fold(false);
}

// Whom one chooses in the list one wants to see.
export function showImages() {
  if (!SMALL.matches) return;
  fold(false);
  scrollTo(0, 0);
}
