"""Programs that search all of their memory for planted marks: ``planted_PLACE_`` and 16 hexadecimal digits."""

FIND = r"""
import ctypes, os, re
found, bytes_read = set(), 0
PATTERNS = []
for width in (1, 2, 4):  # bytes per character in a string of Python; no pattern matches itself
    zeros = rb"\0" * (width - 1)
    name = b"".join(letter + zeros for letter in (b"p", b"l", b"a", b"n", b"t", b"[e]", b"d", b"_"))
    place, digits = b"(?:[a-z]" + zeros + b"){4,8}", b"(?:[0-9a-f]" + zeros + b"){16}"
    PATTERNS.append((width, re.compile(name + place + b"_" + zeros + digits)))

def search(data):
    for width, pattern in PATTERNS:
        found.update((width, bytes(mark[::width])) for mark in pattern.findall(data))
"""
SCAN_MAPS = f"""{FIND}
for line in open("/proc/self/maps"):
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    if line.split()[1][0] == "r" and not line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
        bytes_read += end - start
        search(ctypes.string_at(start, end - start))
"""
PROBE = f"""{FIND}
import gc
libc, (into, out) = ctypes.CDLL(None), os.pipe()[::-1]
readable = lambda page: libc.write(into, ctypes.c_void_p(page), 1) == 1 and os.read(out, 1) is not None
libc.sbrk.restype = ctypes.c_void_p
pages = {{id(item) & ~4095 for item in gc.get_objects() for item in (item, getattr(item, "__dict__", None))}}
pages.add(libc.sbrk(0) - 4096)
seen = set()
while pages:
    page = pages.pop()
    if page not in seen and readable(page):
        seen.add(page)
        pages.update({{page - 4096, page + 4096}} - seen)
starts = sorted(page for page in seen if page - 4096 not in seen)
for start in starts:
    end = start
    while end in seen:
        end += 4096
    bytes_read += end - start
    search(ctypes.string_at(start, end - start))
"""
"""Finds readable pages without files: the kernel refuses to write a byte of a page that is not mapped."""
SCANS = {"maps": SCAN_MAPS, "probe": PROBE}
OWN = "planted_itself_" + "0" * 16
KEEP_OWN = "own = ['planted_' + 'itself_' + '0' * 16 + chr(last) for last in (33, 0x436, 0x1F600)]\n"
"""Keeps the mark ``OWN`` in strings of each width, so that a scan after it must find it."""
OWN_FOUND = {(width, OWN.encode()) for width in (1, 2, 4)}
