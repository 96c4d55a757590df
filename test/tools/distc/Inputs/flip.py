"""flip.py FILE WHERE: inverts one byte of a file, WHERE from 0 (the first) to 1 (the last)."""
import sys

path, where = sys.argv[1], float(sys.argv[2])
with open(path, "r+b") as file:
    data = bytearray(file.read())
    data[int(where * (len(data) - 1))] ^= 0xFF
    file.seek(0)
    file.write(data)
