"""Large arrays of threads come from memory that is kept."""

import ctypes
import os
import subprocess
import sys

import pytest

PROBE = """
import ctypes, sys, threading
if sys.argv[1] == 'keep':
  from cmbjax import allocator
  allocator.keep_pages()
libc = ctypes.CDLL(None)

class Info(ctypes.Structure):
  _fields_ = [(name, ctypes.c_size_t) for name in (
    'arena', 'ordblks', 'smblks', 'hblks', 'hblkhd', 'usmblks', 'fsmblks',
    'uordblks', 'fordblks', 'keepcost')]

libc.mallinfo2.restype = Info
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
before = libc.mallinfo2().hblks
thread = threading.Thread(target=lambda: libc.malloc(100 << 20))
thread.start()
thread.join()
print(libc.mallinfo2().hblks - before)  # blocks that were mapped
"""


@pytest.mark.skipif(
  not hasattr(ctypes.CDLL(None), 'mallinfo2'), reason='not glibc 2.33'
)
@pytest.mark.parametrize(('how', 'mapped'), [('keep', '0'), ('leave', '1')])
def test_a_thread_maps_no_new_pages(how, mapped):
  plain = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_')}
  done = subprocess.run(
    [sys.executable, '-c', PROBE, how],
    env=plain,
    capture_output=True,
    text=True,
    timeout=60,
    check=True,
  )
  assert done.stdout.strip() == mapped
