"""How fast are codes of texts? Side by side with sentence-transformers and skorch's tokenizer.

    python examples/benchmarks/fetch_texts.py texts/
    python examples/benchmarks/texts_speed.py texts/

One thread. Every way computes the codes of the same film sentences in turns, round after round, and
what is printed are ratios of CPU seconds: medians over the rounds, with the smallest and largest.
Then: what tokenizing costs, and whether texts computed alone have the same bits as in any batch.
"""

import argparse
import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
import time
import warnings

import numpy as np
import torch

from shared import machine
from shared.tables import table
from shared.text_peers import folder_of
from shared.texts import film_sentiment
from sktransfer import TextCodes
from sktransfer.inputs import as_texts
from sktransfer.networks import load_text_backbone, text_preparation

torch.set_num_threads(1)


def ways(network):
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    def ours(**params):
        codes = TextCodes(network, cache=None, n_jobs=1, pooling="avg_all", **params).fit(["a"])
        codes.transform(["one text", "another"])
        return codes.transform

    folder = folder_of(network)
    peer = SentenceTransformer(folder, device="cpu")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)

    def padded(texts):
        """As skorch's tokenizer has it: every text is filled up to the longest allowed."""
        rows = []
        for start in range(0, len(texts), 32):
            part = tokenizer(texts[start : start + 32], padding="max_length", truncation=True,
                             max_length=256, return_tensors="pt")  # fmt: skip
            with torch.no_grad():
                out = model(**part).last_hidden_state
            mask = part["attention_mask"][..., None]
            rows.append(((out * mask).sum(1) / mask.sum(1)).numpy())
        return np.concatenate(rows)

    found = {
        "sentence-transformers": lambda texts: peer.encode(texts, normalize_embeddings=False),
        "torch, float32": ours(engine="torch"),
        "OpenVINO, float32": ours(engine="openvino"),
        "OpenVINO, bfloat16": ours(engine="openvino", precision="bfloat16"),
        "padded to 256 tokens (skorch's tokenizer)": padded,
    }
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--network", default="minilm_l6")
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(machine.describe(), end="\n\n")
    texts = list(film_sentiment(args.folder)[0][: args.texts])
    found = ways(args.network)
    seconds = {name: [] for name in found}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(args.rounds):
            for name, run in found.items():
                if name.startswith("padded"):
                    part = texts[: args.texts // 8]  # ten times as slow
                else:
                    part = texts
                start = time.process_time()
                run(part)
                seconds[name].append((time.process_time() - start) / len(part))
    base = np.array(seconds["sentence-transformers"])
    rows = []
    for name, times in seconds.items():
        ratio = base / np.array(times)
        rows.append([name, f"{1 / np.median(times):.0f}",
                     f"{np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]"])  # fmt: skip
    print(table(["", "texts a CPU second", "× sentence-transformers"], rows))
    tokenizing(args.network, texts, np.median(seconds["OpenVINO, bfloat16"]))
    bits(found, texts)


def tokenizing(network, texts, fastest):
    preparation = text_preparation(load_text_backbone(network))
    items = [as_texts(texts).open(i) for i in range(len(texts))]
    start = time.process_time()
    for item in items:
        preparation(item)
    each = (time.process_time() - start) / len(texts)
    told = f"{1 / each:,.0f} texts a second, {each / fastest:.1%} of the fastest pass"
    print(f"\nTokenizing: {told}.")


def bits(found, texts):
    print("\nRows that have the same bits when their text is computed alone:")
    for name in ("torch, float32", "OpenVINO, float32", "OpenVINO, bfloat16"):
        together = found[name](texts)
        alone = np.concatenate([found[name]([text]) for text in texts[:200]])
        same = (together[:200] == alone).all(axis=1)
        print(f"- {name}: {same.mean():.1%}, largest difference "
              f"{np.abs(together[:200] - alone).max():.1e}")  # fmt: skip


if __name__ == "__main__":
    main()
