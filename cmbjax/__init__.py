"""Cerebral microbleeds on SWI: scans to lesions, cohorts to fair studies."""

__version__ = '0.1.0'
