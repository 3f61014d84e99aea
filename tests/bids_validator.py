"""The BIDS validator, called as a person would, without a network."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import pytest


def errors_and_warnings(folder):
  """((code, file), ...) of both kinds; skips without the validator.

  The schema is inside the program, so it needs no network.
  """
  beside = pathlib.Path(sys.executable).with_name('bids-validator-deno')
  tool = str(beside) if beside.is_file() else shutil.which(beside.name)
  if tool is None:
    assert importlib.util.find_spec('bids_validator_deno') is None
    pytest.skip("no bids-validator-deno; pip install 'cmbjax[validate]'")
  done = subprocess.run(
    [tool, '--format', 'json', '--max-rows', '-1', str(folder)],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  issues = json.loads(done.stdout)['issues']['issues']
  return tuple(
    [
      (issue['code'], issue.get('subCode', ''), issue.get('location'))
      for issue in issues
      if issue['severity'] == kind
    ]
    for kind in ('error', 'warning')
  )


def assert_valid(folder, *, describes_columns=True):
  """No error, and every column of every table is described."""
  errors, warnings = errors_and_warnings(folder)
  assert errors == []
  codes = {code for code, _, _ in warnings}
  if describes_columns:
    assert 'TSV_ADDITIONAL_COLUMNS_UNDEFINED' not in codes, warnings
  assert 'TSV_COLUMN_TYPE_REDEFINED' not in codes
