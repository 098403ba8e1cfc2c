"""Dedup: one survivor for every group of equal or nearly equal documents.

Exact duplicates share a BLAKE2b-128 of the normalised text. Near-duplicates are found by MinHash-LSH (Broder 1997;
Leskovec, Rajaraman and Ullman, chapter 3), with the permutations of datasketch 2.0, and decided by the exact Jaccard
similarity of their shingle sets. Who survives is a total order over the rows' contents, so neither the order of the
input nor the number of shards, processes or parts changes the outcome.

What grows with the number of documents lies in files of the work folder; what is in memory at once is bounded by
`DedupConfig.memory`.
"""

from __future__ import annotations

from typing import Any

from artifacts.reader import InputTable
from artifacts.tables import DECISIONS, DOCUMENTS, PAIRS, SIGNATURES
from tasks.dedup.batches import batches
from tasks.dedup.clusters import Comparison, load_group
from tasks.dedup.config import DedupConfig
from tasks.dedup.corpus import Corpus, read_corpus
from tasks.dedup.earlier import Earlier, check_against
from tasks.dedup.join import Candidates, find_twins, join_bands
from tasks.dedup.minhash import PERMUTATION_SEED, SCHEME, candidate_probability
from tasks.dedup.outcome import Account, Naming, Outcome, alarms
from tasks.dedup.shingle_sets import spill_sets
from tasks.dedup.spill import Scratch, Spill
from tasks.dedup.writing import PAIR, pair_records, write_documents, write_index, write_pairs
from tasks.stage import Stage, StageContext, Summary


def run(context: StageContext) -> Summary:
    """Write the survivors, a decision a document, the compared pairs, the survivors' signatures and their index."""
    config: DedupConfig = context.config
    check_against(context)
    limits = config.limits
    documents = context.input("documents")
    with Scratch(context.work / "dedup") as scratch:
        corpus = read_corpus(context, documents, scratch)
        earlier = Earlier.open(context.inputs.get("against", ()), corpus.rows)
        twins = find_twins(corpus, earlier, limits, scratch)
        candidates = join_bands(corpus, twins, earlier, limits, scratch, keep_sorted=config.index)
        naming = Naming(corpus, earlier, candidates)
        outcome = Outcome.start(corpus.rows, scratch)
        pairs = scratch.spill(PAIR)
        counted = _compare(context, documents, candidates, naming, outcome, pairs, scratch)
        outcome.enter_twins(twins)
        account = Account.of(outcome, corpus, limits, scratch)
        found = alarms(config, account, corpus.rows, naming)
        metrics = _metrics(config, corpus, account) | counted
        metrics |= {"earlier_documents": earlier.documents, "alarms": found}
        write_documents(context, documents, corpus, outcome, naming)
        write_pairs(context, pairs, naming, scratch)
        if config.index:
            write_index(context, corpus, twins, candidates, outcome, scratch)
    return Summary(metrics=metrics)


def _compare(
    context: StageContext,
    documents: InputTable,
    candidates: Candidates,
    naming: Naming,
    outcome: Outcome,
    pairs: Spill,
    scratch: Scratch,
) -> dict[str, Any]:
    """Decide all candidates, a batch of components at a time. Returns the figures of the pairs."""
    config: DedupConfig = context.config
    corpus, earlier = naming.corpus, naming.earlier
    sets = spill_sets(context, documents, earlier, candidates, scratch)
    nodes = int(candidates.is_node.sum()) + len(candidates.earlier)
    done = accepted = cut = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        context.progress(done, nodes, "comparing candidates")

    for members in batches(candidates, sets.lengths, config.limits, scratch):
        group = load_group(members, corpus, earlier, candidates, sets)
        numbers = naming.numbers(group.numbers)
        comparison = Comparison(group, config.threshold)
        for found in comparison.pairs(progress):
            pairs.append(pair_records(found, numbers, naming))
            accepted += int((found.jaccard >= config.threshold).sum())
        outcome.enter(group, comparison, numbers)
        cut += comparison.cut
    return {"candidate_pairs": pairs.rows, "accepted_pairs": accepted, "cut_buckets": cut}


def _metrics(config: DedupConfig, corpus: Corpus, account: Account) -> dict[str, Any]:
    return {
        "documents": corpus.rows,
        "documents_without_words": int((corpus.origin["shingles"] == 0).sum()),
        "exact_duplicates": account.exact,
        "near_duplicates": account.near,
        "clusters": account.clusters,
        "largest_cluster": account.largest_cluster,
        "largest_loss": account.largest_loss,
        "sources": {name: {"documents": of, "dropped": lost} for name, (of, lost) in account.sources.items()},
        "candidate_probability_at_threshold": candidate_probability(config.threshold, config.bands, config.rows),
        "candidate_probability": {
            f"{step / 10:.1f}": candidate_probability(step / 10, config.bands, config.rows) for step in range(1, 11)
        },
        "signature": {"scheme": SCHEME, "permutations": config.permutations, "seed": PERMUTATION_SEED},
    }


STAGE = Stage(
    name="dedup",
    version=2,
    config=DedupConfig,
    reads={"documents": DOCUMENTS, "against": DOCUMENTS},
    optional=frozenset({"against"}),
    writes={"data": DOCUMENTS, "decisions": DECISIONS, "pairs": PAIRS, "signatures": SIGNATURES},
    run=run,
    seeded=False,
)
