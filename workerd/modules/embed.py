"""Writes a file as a C array: embed.py FILE NAME HEADER >OUT.c"""

import sys


def main(path, name, header):
    with open(path, "rb") as file:
        data = file.read()
    print(f'#include "{header}"\n\nconst char {name}[] = {{')
    for at in range(0, len(data), 20):
        print("    " + " ".join(f"{byte - 256 if byte > 127 else byte}," for byte in data[at:at + 20]))
    print(f"    0}};\n\nconst size_t {name}_size = sizeof({name}) - 1;")


main(*sys.argv[1:])
