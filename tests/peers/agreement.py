#!/usr/bin/env python3
"""Agreement of persons by well-known libraries: `agreement.py FOLDER` installs them, pinned, into a folder of their own, where a second
run finds them. Reads `{"kind": "nominal" | "points", "scale": N, "labels": [[person, row, value], ...]}` from standard input, with one label
of each person and row, and prints `{"cohen": {"a|b": ...}, "fleiss": ..., "alpha": ...}`; null where a value is not defined. Kappa of
points has quadratic weights, their alpha the interval metric. Fleiss' kappa is of the rows that as many persons judged as most."""
import collections
import itertools
import json
import os
import pathlib
import subprocess
import sys
import venv
import warnings

PACKAGES = ["scikit-learn==1.9.1", "statsmodels==0.15.0", "krippendorff==0.9.0"]


def install(folder):
    """The Python that has the packages."""
    folder = folder.absolute() / "-".join(PACKAGES).replace("==", "-")
    python, ready = folder / "bin/python", folder / "ready"
    if not ready.exists():
        print(f"peers: installing {' '.join(PACKAGES)}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True, stdout=sys.stderr)
        ready.touch()
    return python


def defined(value):
    return float(value) if value == value else None


def cohen(one, other, scale):
    """Of the values of two persons; `scale` is none for nominal ones."""
    from sklearn.metrics import cohen_kappa_score
    if len({*one, *other}) < 2:
        return None
    if scale is None:
        return defined(cohen_kappa_score(one, other))
    return defined(cohen_kappa_score(one, other, weights="quadratic", labels=range(1, scale + 1)))


def fleiss(rows):
    """Of the values of each row."""
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa
    sizes = collections.Counter(len(row) for row in rows if len(row) > 1)
    if not sizes:
        return None
    most = max(sizes, key=lambda size: (sizes[size], size))
    rows = [row for row in rows if len(row) == most]
    if len({value for row in rows for value in row}) < 2:
        return None
    return defined(fleiss_kappa(aggregate_raters(rows)[0]))


def alpha(rows, is_points):
    """Of the values of each row, counted; those of rows with one value pair with nothing."""
    import krippendorff
    rows = [row for row in rows if len(row) > 1]
    domain = sorted({value for row in rows for value in row})
    if len(domain) < 2:
        return None
    counts = [[row.count(value) for value in domain] for row in rows]
    if not is_points:
        return defined(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))
    return defined(krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement="interval"))


def main():
    if len(sys.argv) > 1:
        python = install(pathlib.Path(sys.argv[1]))
        sys.stdout.flush()
        os.execv(python, [str(python), __file__])
    warnings.filterwarnings("ignore")
    asked = json.load(sys.stdin)
    is_points = asked["kind"] == "points"
    persons, rows = collections.defaultdict(dict), collections.defaultdict(list)
    for person, row, value in asked["labels"]:
        persons[person][row] = value
        rows[row].append(value)
    pairs = {}
    for one, other in itertools.combinations(sorted(persons), 2):
        if common := sorted(persons[one].keys() & persons[other].keys()):
            values = [[persons[person][row] for row in common] for person in (one, other)]
            pairs[f"{one}|{other}"] = cohen(*values, asked["scale"] if is_points else None)
    rows = list(rows.values())
    print(json.dumps({"cohen": pairs, "fleiss": fleiss(rows), "alpha": alpha(rows, is_points)}))


if __name__ == "__main__":
    main()
