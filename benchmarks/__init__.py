"""How fast heedful is beside its peers: races of contestants in fresh processes, stored as JSON, read by one page.

    python -m benchmarks.run                    every race that is not stored yet of this machine, data and code
                                                (`make bench`); figures of others are replaced
    python -m benchmarks.run --only smollm2     one race
    python -m benchmarks.earlier COMMIT         was heedful made slower since?
    python -m benchmarks.document               docs/benchmarks.md from what is stored

races.py       who runs against whom, on which workload, how often
workload.py    a model folder and rows as token ids, the same for every contestant
run.py         A B A B ...: the races, stored after each round
child.py       what a contestant's process does around its work
contestants/   one file a contestant
heedful_api.py all that is asked of heedful
claims.py      what is promised, and what the stored numbers say of it
document.py    the page
earlier.py     an earlier commit against this code, update by update in turn
side.py        what each of the two does when it is called
encode_rows.py rows/s and memory of encoding a million rows, beside the races
"""
