"""What well-known libraries do about duplicates in the rows of `make bench-data`, one task a process; the last line printed is JSON.
`plant` adds known duplicates to a file of chats, so that what was found can be judged."""
import json
import random
import re
import resource
import sys
import time

CJK = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
WORDS = 5


def text_of(row):
    return "\n".join(message["content"] for message in row["messages"])


def plant(source, target, truth, rows_max):
    """Of some rows a copy follows: 2 % exact, 1 % but for case and space, 5 % with a word of sixty changed. `truth` has, for each line
    of `target`, its family and what it is."""
    dice = random.Random(11)
    with open(source) as lines, open(target, "w") as out, open(truth, "w") as told:
        written = 0
        for family, line in enumerate(lines):
            if written >= int(rows_max):
                break
            row = json.loads(line)
            draw = dice.random()
            kind = "exact" if draw < .02 else "case" if draw < .03 else "near" if draw < .08 else None
            copies = [(row, "first" if kind else "alone")]
            if kind:
                copy = json.loads(line)
                for message in copy["messages"]:
                    message["content"] = changed(message["content"], kind, dice)
                copies.append((copy, kind))
            for written_row, what in copies:
                out.write(json.dumps(written_row, ensure_ascii=False) + "\n")
                told.write(f"{family} {what}\n")
                written += 1
    return {"rows": written}


def changed(text, kind, dice):
    if kind == "exact":
        return text
    if kind == "case":
        return re.sub(r" ", "  ", text.upper(), count=1) + " "
    words = text.split(" ")
    return " ".join("other" + str(dice.randrange(1000)) if dice.random() < 1 / 60 else word for word in words)


def polars_exact(source, target):
    """Rows from Parquet, compared in lower case with runs of white space as one space; the first of each stays, and they are written."""
    import polars as pl
    begun = time.perf_counter()
    key = (pl.col("text").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars().hash())
    rows = pl.scan_parquet(source).with_columns(key.alias("key")).unique(subset="key", keep="first", maintain_order=True)
    rows = rows.drop("key")
    rows.sink_ipc(target, compression="lz4")
    wall = time.perf_counter() - begun
    begun = time.perf_counter()
    kept = (pl.scan_parquet(source).select(key.alias("key")).unique().select(pl.len()).collect().item())
    return {"wall_s": wall, "kept": kept, "count_only_s": time.perf_counter() - begun}


def to_parquet(source, target):
    import polars as pl
    texts, lines = [], []
    with open(source) as rows:
        for line in rows:
            texts.append(text_of(json.loads(line)))
            lines.append(line)
    pl.DataFrame({"text": texts, "line": lines}).write_parquet(target, row_group_size=100_000)
    return {"rows": len(texts)}


def rensa_near(source, found):
    """MinHash of word shingles with 14 bands of 8, rows flagged that share a key with an earlier one."""
    from rensa import RMinHash, RMinHashLSH
    begun = time.perf_counter()
    lsh = RMinHashLSH(threshold=0.7, num_perm=112, num_bands=14)
    hits = []
    with open(source) as rows:
        for number, line in enumerate(rows):
            words = CJK.findall(text_of(json.loads(line)).lower())
            shingles = {" ".join(words[at:at + WORDS]) for at in range(max(1, len(words) - WORDS + 1))}
            minhash = RMinHash(num_perm=112, seed=42)
            minhash.update(list(shingles))
            if lsh.query(minhash):
                hits.append(number)
            lsh.insert(number, minhash)
    wall = time.perf_counter() - begun
    with open(found, "w") as out:
        out.writelines(f"{number}\n" for number in hits)
    return {"wall_s": wall, "flagged": len(hits)}


def judge(truth, found):
    """Recall of planted copies and precision of what was flagged; a row of a planted family is a right find."""
    families, kinds = zip(*(line.split() for line in open(truth)))
    flagged = {int(line.split()[0]) for line in open(found)}
    copies = [row for row, kind in enumerate(kinds) if kind in ("exact", "case", "near")]
    near = [row for row in copies if kinds[row] == "near"]
    right = sum(kinds[row] != "alone" for row in flagged)
    return {
        "recall": sum(row in flagged for row in copies) / max(1, len(copies)),
        "near_recall": sum(row in flagged for row in near) / max(1, len(near)),
        "precision": right / max(1, len(flagged)),
        "flagged": len(flagged),
    }


if __name__ == "__main__":
    tasks = {
        "plant": plant, "to-parquet": to_parquet, "polars-exact": polars_exact, "rensa-near": rensa_near, "judge": judge,
    }
    told = tasks[sys.argv[1]](*sys.argv[2:])
    told["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps(told))
