"""The order of sources by a measure, and where other measures contradict it.

The rule of ranks. A source's score is FID, or KID or |SID(source || target)| (`by`), and has a 95% interval. (For |SID| it is the
interval of SID, mapped by |x|.) The sources are sorted by score, and a new rank begins where a source's interval lies above the
intervals of all sources before it. So two sources have different ranks only if their intervals are apart, and sources whose
intervals overlap, directly or by way of other sources, are tied; within a tie they are listed by name. The intervals of all
sources include the sampling of the one target, which makes ties a little more frequent than necessary.

FID is the default. SID adds the offset of a source and its spread, so that narrow sets of textures come before photographs
(docs/neighbors.md)."""

MEASURES = ('fid', 'kid', 'sid')
FEW      = 10   # With fewer images for each feature dimension, FID is inflated.

def interval(entry, by):
    """Return (score, lowest, highest) of a source by |SID|, FID or KID."""
    value, half = entry[by]['value'], entry[by]['ci95']
    low, high = value - half, value + half
    if by != 'sid':
        return value, low, high
    return abs(value), max(low, -high, 0), max(high, -low)

def rank(entries, by):
    """Return the entries with 'rank' and 'tied' added, in the order of their rank, by the rule above."""
    ties, reach = [], None
    for entry in sorted(entries, key=lambda entry: interval(entry, by)[0]):
        _, low, high = interval(entry, by)
        if reach is None or low > reach:
            ties.append([])
        ties[-1].append(entry)
        reach = high if reach is None else max(reach, high)
    ranked = []
    for tie in ties:
        first = len(ranked) + 1
        ranked += [dict(entry, rank=first, tied=len(tie) > 1) for entry in sorted(tie, key=lambda entry: entry['source'])]
    return ranked

def disagreements(entries, dim, by):
    """Return [(a, b, measures)] where `by` puts a before b and the measures put b before a, all by intervals that are apart.

    Few images inflate FID. So FID does not count against an `a` that has fewer images than b, and fewer than 10 for each of
    the dim features."""
    bounds = [{measure: interval(entry, measure)[1:] for measure in MEASURES} for entry in entries]
    before = lambda i, j, measure: bounds[i][measure][1] < bounds[j][measure][0]
    fair = lambda a, b, measure: measure != 'fid' or a['images'] >= min(b['images'], FEW * dim)
    found = []
    for i, a in enumerate(entries):
        for j, b in enumerate(entries):
            if before(i, j, by) and (against := [measure for measure in MEASURES if before(j, i, measure) and
                                                 fair(a, b, measure)]):
                found.append((a, b, against))
    return found

#----------------------------------------------------------------------------
