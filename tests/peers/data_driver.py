"""What well-known libraries do with the rows of `make bench-data`, one task a process; the last line printed is JSON."""
import json
import os
import resource
import shutil
import sys
import time


def pyarrow_import(source, target):
    import pyarrow as pa
    import pyarrow.json
    begun = time.perf_counter()
    table = pyarrow.json.read_json(source)
    with pa.OSFile(target, "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=8192)
    return {"wall_s": time.perf_counter() - begun, "rows": table.num_rows}


def datasets_import(source, cache):
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets
    datasets.disable_progress_bars()
    shutil.rmtree(cache, ignore_errors=True)
    begun = time.perf_counter()
    rows = datasets.load_dataset("json", data_files=source, split="train", cache_dir=cache)
    return {"wall_s": time.perf_counter() - begun, "rows": rows.num_rows}


def pyarrow_filter(source):
    """Rows with a message of more than 4000 characters that contains a word: bytes first, which tells most apart."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def once():
        found = 0
        reader = pa.ipc.open_file(pa.memory_map(source))
        for index in range(reader.num_record_batches):
            messages = reader.get_batch(index).column("messages")
            parents = pc.list_parent_indices(messages)
            contents = pc.list_flatten(messages).field("content")
            long = pc.greater(pc.binary_length(contents), 4000)
            contents, parents = contents.filter(long), parents.filter(long)
            hit = pc.and_(pc.greater(pc.utf8_length(contents), 4000), pc.match_substring(contents, "whale"))
            found += len(pc.unique(parents.filter(hit)))
        return found

    walls = []
    for _ in range(4):
        begun = time.perf_counter()
        rows = once()
        walls.append(time.perf_counter() - begun)
    return {"rows": rows, "walls_s": walls}


if __name__ == "__main__":
    tasks = {"pyarrow-import": pyarrow_import, "datasets-import": datasets_import, "pyarrow-filter": pyarrow_filter}
    told = tasks[sys.argv[1]](*sys.argv[2:])
    told["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps(told))
