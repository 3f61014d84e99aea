"""The report of a study in a real browser: fits, asks for nothing."""

import pytest

from cmbjax.evaluation import compare
from cmbjax.report import study_page
from cmbjax.report.rows import make_row
from tests import browser as browser_lib
from tests.evaluation_data import table
from tests.test_report import out_of_fold, study_of, with_lesions

pytestmark = pytest.mark.skipif(
  browser_lib.find() is None, reason='no Chromium on the PATH'
)


@pytest.fixture(scope='module')
def browser():
  with browser_lib.opened() as one:
    yield one


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  """Every section has something in it."""
  one = with_lesions(table('7t'))
  held = [
    out_of_fold(name, one.predictions, one.scans)
    for name in ('scratch', 'combined')
  ]
  study = study_of(
    rows=[make_row(one, number=2, draws=20)],
    held_out=[make_row(some, draws=20) for some in held],
    pairs=compare.all_pairs(held),
  )
  folder = tmp_path_factory.mktemp('report')
  return study_page.write(study, folder)


@pytest.mark.parametrize('width', [1280, 400])
def test_it_fits_and_works_from_a_file(browser, page, width):
  browser.open(page, width=width)
  browser.run('document.querySelectorAll("details").forEach(d => d.open = 1)')
  assert browser.run('document.documentElement.scrollWidth <= innerWidth')
  asked = [a for a in browser.requests() if not a.startswith('data:')]
  assert asked == [page.as_uri()]
  assert browser.complaints() == []
  # Every entry of the table of contents leads to a section.
  assert browser.run(
    '[...document.querySelectorAll("nav a")].every('
    'a => document.querySelector(a.getAttribute("href")))'
  )
