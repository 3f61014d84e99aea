'use strict';
// Sorts the table by the heading that is pressed; again turns it round.
(() => {
  const table = document.querySelector('#scans table');
  if (!table) return;
  const heads = [...table.querySelectorAll('thead th')];
  heads.forEach((head, column) => {
    head.querySelector('button').addEventListener('click', () => {
      const number = head.dataset.kind === 'number' || column === 11;
      const was = head.getAttribute('aria-sort');
      const first = number ? 'descending' : 'ascending';
      const second = number ? 'ascending' : 'descending';
      const now = was === first ? second : first;
      const sign = now === 'ascending' ? 1 : -1;
      const value = (row) => row.children[column].dataset.sort;
      const rows = [...table.tBodies[0].rows].sort((a, b) => sign * (number
        ? Number(value(a)) - Number(value(b))
        : value(a).localeCompare(value(b), 'en', {numeric: true})));
      table.tBodies[0].append(...rows);
      heads.forEach((one) => one.setAttribute('aria-sort', 'none'));
      head.setAttribute('aria-sort', now);
    });
  });
})();
