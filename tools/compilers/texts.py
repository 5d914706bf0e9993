"""Goes through the texts that tests/shaders has written for another compiler, by all cores, and tells what is wrong with them."""

import json
import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

state = None  # what a process has made for itself
doing = None  # the shader that a process is at, to be told when it ends


def begin(start, arguments, places, number):
    global doing
    with number.get_lock():
        doing = places[number.value]
        number.value += 1
    start(*arguments)


def run(check, line):
    """The shader, and of each of its texts whether it has runtime checks, and what is wrong."""
    shader = json.loads(line)
    doing.value = shader["what"].encode()[:400]
    return shader["what"], [(text["checked"], check(text)) for text in shader["texts"]]


def hold(folder, start, arguments, check, known=()):
    """Calls `check` with each text of the folder's shaders, which gives what is wrong or None. Faults of the compiler that are `known`, by stem
    and a part of the message, are waived; who no longer has one fails. Returns the exit code."""
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    of = sum(int(file.read_text()) for file in folder.glob("*.count"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    places = [multiprocessing.Array("c", 401) for _ in range(cores)]
    passed, failed, waived, faults, examples, texts = set(), set(), Counter(), Counter(), {}, 0
    try:
        initial = (start, arguments, places, multiprocessing.Value("i", 0))
        with ProcessPoolExecutor(cores, initializer=begin, initargs=initial) as pool:
            for what, found in pool.map(run, [check] * len(lines), lines, chunksize=8):
                stem = what.split(" ")[0]
                texts += len(found)
                for checked, fault in found:
                    why = next((one for one in known if fault and one[0] == stem and one[1] in fault), None)
                    if why:
                        waived[why] += 1
                        continue
                    (failed if fault else passed).add(stem)
                    if fault:
                        faults[f"{stem}: {fault}"] += 1
                        examples.setdefault(f"{stem}: {fault}", what + (", with runtime checks" if checked else ""))
    except BrokenProcessPool:
        at = [place.value.decode() for place in places]
        print("the compiler ended its process, at one of\n" + "\n".join(f"  {what}" for what in at))
        failed.update(what.split(" ")[0] for what in at)
    for fault, times in faults.items():
        print(f"FAILED {times} x {fault}\n  such as {examples[fault]}")
    for stem, fault, why in known:
        print(f"waived {waived[stem, fault, why]} x {stem}: {fault}: {why}")
        if not waived[stem, fault, why]:
            print(f"FAILED {stem} is waived, and has the fault no longer")
            failed.add(stem)
    print(f"{len(lines)} of {of} shaders, {texts} texts, {sum(faults.values())} of them wrong, {sum(waived.values())} waived")
    passed -= failed
    right = bool(passed) and not failed
    print(f"test result: {'ok' if right else 'FAILED'}. {len(passed)} passed; {len(failed)} failed; {len(known)} ignored")
    return 0 if right else 1
