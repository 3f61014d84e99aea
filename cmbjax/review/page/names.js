// What readers call a candidate: its place among its own kind. The numbers of
// the server stay out of sight; in a first reading they begin at 1001.

let names = new Map();

const isOwn = (item) => item.origin !== 'model';

export function nameAll(items) {
  names = new Map();
  for (const own of [false, true]) {
    [...items.values()].filter((item) => isOwn(item) === own)
      .sort((one, other) => one.item - other.item)
      .forEach((item, at) => names.set(item.item,
        `${own ? 'Addition' : 'Candidate'} ${at + 1}`));
  }
}

export const nameOf = (item) => names.get(item.item) ||
  `${isOwn(item) ? 'Addition' : 'Candidate'} ${item.item}`;

// Of a number alone.
export const called = (item) =>
  (names.get(item) || `candidate ${item}`).toLowerCase();
