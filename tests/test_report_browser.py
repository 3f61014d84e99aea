"""The report of a study in a real browser: fits, asks for nothing."""

import pytest

from cmbjax.evaluation import compare
from cmbjax.report import study_page
from cmbjax.report.rows import make_row
from tests import browser
from tests.evaluation_data import table
from tests.test_report import out_of_fold, study_of, with_lesions

pytestmark = browser.needed


@pytest.fixture(scope='module')
def report(tmp_path_factory):
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
def test_it_fits_and_works_from_a_file(page, report, width):
  browser.check_file(page, report, width=width)
  # Every entry of the table of contents leads to a section.
  assert page.evaluate(
    '[...document.querySelectorAll("nav a")].every('
    'a => document.querySelector(a.getAttribute("href")))'
  )
