"""The files of the review page: small, own, and nothing from elsewhere."""

import pathlib
import re

import pytest

import cmbjax

STATIC = pathlib.Path(cmbjax.__file__).parent / 'review' / 'page'
OWN = sorted(path for path in STATIC.iterdir() if path.is_file())


def test_there_is_a_page():
  names = {path.name for path in OWN}
  assert {'page.html', 'page.css', 'app.js', 'viewer.js'} <= names


@pytest.mark.parametrize('path', OWN, ids=lambda path: path.name)
def test_files_are_small_and_ask_for_nothing_elsewhere(path):
  text = path.read_text(encoding='utf-8')
  assert path.stat().st_size < 24_000
  assert not re.search(r'(?<!xmlns=")https?://', text)
  assert not re.search(r"""(src|href)=["']/|fetch\(["'`]/""", text)
  assert not re.search(r'\beval\(|new Function|innerHTML|outerHTML', text)
  if path.suffix == '.html':  # a policy without 'unsafe-inline'
    assert not re.search(r'<style|\sstyle=|\son\w+=', text)
    assert not re.search(r'<script(?![^>]*\ssrc=)', text)
    assert text.count('{{ token }}') == 1


def test_modules_import_only_one_another():
  names = {path.name for path in OWN}
  for path in OWN:
    if path.suffix == '.js':
      found = re.findall(
        r"""(?:from |import\()'\./([\w.-]+)\'""", path.read_text()
      )
      assert set(found) <= names, path.name


def test_every_id_that_is_asked_for_is_there():
  page = (STATIC / 'page.html').read_text(encoding='utf-8')
  script = '\n'.join(
    path.read_text(encoding='utf-8') for path in OWN if path.suffix == '.js'
  )
  there = set(re.findall(r'\sid="([\w-]+)"', page))
  made = set(re.findall(r"\bid: '([\w-]+)'", script))
  asked = set(re.findall(r"\$\('([\w-]+)'\)", script))
  assert asked <= there | made
  assert not there & made
