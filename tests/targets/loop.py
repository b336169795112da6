"""Behaviour: a script for the system's python that calls three C functions an exact number of times.

  run N 1   calls N times each, with one entry of a C function for each call; `done N`
            pow(seven, 2)   `PyNumber_Power` of the interpreter
            format(seven)   `PyObject_Format` of the interpreter
            os.getpid()     `getpid` of libc

  mix N 1   N rounds of dictionaries, JSON, regular expressions, sorting, exceptions and hashes; `done HASH` of all results

(Not `abs` or `operator.index`: this interpreter is built with link-time optimisation, and there the exported
functions of those names are never entered from a script.)
Protocol as in line.h: `ready pid=N` once, one command a line, one answer a line, ends at end of file.
"""
import hashlib
import json
import os
import re
import sys
from itertools import repeat


def run(calls):
    seven, total, wrong = 7, 0, 0
    for _ in repeat(None, calls):
        total += pow(seven, 2)
        wrong += format(seven) != "7"
        wrong += os.getpid() != SELF
    return total == 49 * calls and wrong == 0


def mix(rounds):
    sum_of_all = hashlib.sha256()
    for i in range(rounds):
        table = {str(j): [j * i, float(j) / 3, {"inner": j}] for j in range(20)}
        text = json.dumps(table, sort_keys=True)
        parts = [text, repr(json.loads(text)), sorted(re.findall(r"\d+", text))[:50], sum(x * x for x in range(100))]
        try:
            parts.append(i // (i % 3))
        except ZeroDivisionError as error:
            parts.append(str(error))
        sum_of_all.update(repr(parts).encode())
    return sum_of_all.hexdigest()


SELF = os.getpid()
print(f"ready pid={SELF}", flush=True)
for line in sys.stdin:
    words = line.split()
    if words == ["quit"]:
        break
    if len(words) == 3 and words[0] == "run":
        print("done" if run(int(words[1])) else "wrong", words[1], flush=True)
    elif len(words) == 3 and words[0] == "mix":
        print("done", mix(int(words[1])), flush=True)
    else:
        print("error unknown command:", line.strip(), flush=True)
