"""What names of classes, columns and files say about lesions.

Rule: a name that says nothing is not guessed.
"""

import pathlib
import re

from cmbjax import delimited
from cmbjax.intake import filename

INDEX = ('index', 'value', 'label', 'label_value')  # columns of the values
MICROBLEED, OTHER = 'microbleed', 'other'  # kinds

# Columns of a look-up table (BIDS); any other one is of a lesion.
_OF_CLASSES = {*INDEX, 'name', 'abbreviation', 'color', 'colour', 'mapping'}
_OF_CLASSES |= {'description', 'r', 'g', 'b', 'a', 'hex', ''}
_BLEED = r'micro[ _-]?(bleed|ha?emorr?h?age)|(^|[^a-z])(cmb|mb)s?([^a-z]|$)'
_NOT = r'mimic|(^|[^a-z])(not?|non|false|fp)([^a-z]|$)|reject|artefact|artifact'
_ELSE = (
  'vein|vessel|arter|calcif|background|wmh|white.?matter|infarct|stroke|lacun|'
  'ventric|csf|tissue|sideros|ha?ematoma|tumou?r|oedema|edema|perivascular|'
  r'(^|[^a-z])(pvs|gm|wm|skull|scalp|air)([^a-z]|$)|^(whole.?)?brain(.?mask)?$'
)
_LESION = (
  'definite|possible|probable|certain|lesion|bleed|lobar|deep|infratentorial|'
  'cortical|thalam|basal.?gangl|cerebell|brain.?stem|frontal|parietal|'
  'temporal|occipital'
)
_ONE_OF_MANY = re.compile(r'.*[a-z ._-]+\d+', re.IGNORECASE)  # 'cmb-001'
_OTHER_FILE = re.compile(
  'wmh|stroke|infarct|lacun|lesions?|flair|tumou?r|ms', re.IGNORECASE
)


def kind(name: str) -> str | None:
  """MICROBLEED, OTHER or None: a name of a class that says nothing."""
  name = name.strip().lower()
  bleed, opposed = re.search(_BLEED, name), re.search(_NOT, name)
  if bleed and not opposed:
    return MICROBLEED
  if opposed or re.search(_ELSE, name):
    return OTHER
  return MICROBLEED if re.search(_LESION, name) else None


def lists_lesions(table: delimited.TextTable | None) -> bool:
  """Whether rows are lesions: they have measures, or numbers in their names."""
  if table is None:
    return False
  if not set(table.header) <= _OF_CLASSES:
    return True
  at = table.column('name')
  names = [row.cells[at] for row in table.rows] if at is not None else []
  return len(set(names)) == len(names) > 0 and all(
    _ONE_OF_MANY.fullmatch(name) for name in names
  )


def is_of_other_lesions(path: pathlib.Path) -> bool:
  """Whether the name of a file says lesions that are not microbleeds."""
  stem = path.name.split('.')[0]
  if re.search('micro[ _-]?(bleed|ha?emor)|cmb', stem.lower()):
    return False
  label = (filename.entities(path).get('label') or '').lower()
  words = re.split('[_-]', stem)
  return label == 'l' or any(_OTHER_FILE.fullmatch(word) for word in words)
