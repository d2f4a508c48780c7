"""The loops of `link` compiled: tags, the tables of a band, and the forest of texts that meet."""

# pyright: basic

import numpy as np

from tracemill.corpus.kernels.jit import kernel, part
from tracemill.corpus.near.block import Hashes, Indices, Tables, frozen
from tracemill.corpus.near.plain import LAST, MIX


def tags(signatures: Hashes, bands: int, rows: int) -> Hashes:
    found = np.empty((len(signatures), bands), np.uint32)
    _tags(signatures, rows, found)
    return found


def enter(tags: Hashes, low: int, high: int, tables: Tables) -> Indices:
    firsts = np.empty(tags.shape, np.int32)
    _enter(frozen(tags), low, high, tables, firsts)
    return firsts


@part
def _tag(signature, band, rows):
    mixed = np.uint32(0)
    empty = True
    for row in range(band * rows, band * rows + rows):
        value = signature[row]
        empty &= value == np.uint32(0xFFFFFFFF)
        mixed = np.uint32((mixed ^ value) * np.uint32(MIX))
        mixed = np.uint32(mixed ^ (mixed >> np.uint32(15)))
    if empty:
        return np.uint32(0)
    return min(max(mixed, np.uint32(1)), np.uint32(LAST))


@kernel
def _tags(signatures, rows, found):
    for text in range(found.shape[0]):
        for band in range(found.shape[1]):
            found[text, band] = _tag(signatures[text], band, rows)


@part
def find(parent, text):
    while parent[text] != text:
        parent[text] = parent[parent[text]]
        text = np.int64(parent[text])
    return text


@part
def union(parent, one, other):
    one, other = find(parent, one), find(parent, other)
    if one < other:
        parent[other] = one
    else:
        parent[one] = other


@kernel
def _enter(tags, low, high, tables, firsts):
    mask = np.uint32(tables.shape[1] - 1)
    for band in range(low, high):
        tables[band] = np.uint64(0)
        for text in range(tags.shape[0]):
            tag = tags[text, band]
            firsts[text, band] = text
            if tag == 0:
                continue
            slot = tag & mask
            while True:
                entry = tables[band, slot]
                if entry == 0:
                    tables[band, slot] = np.uint64(tag) << np.uint64(32) | np.uint64(text)
                    break
                if entry >> np.uint64(32) == tag:
                    firsts[text, band] = np.int32(entry & np.uint64(0xFFFFFFFF))
                    break
                slot = (slot + np.uint32(1)) & mask


@kernel
def link(firsts, low, high, parent, start):
    for text in range(firsts.shape[0]):
        for band in range(low, high):
            if firsts[text, band] != text:
                union(parent, start + text, start + np.int64(firsts[text, band]))


@kernel
def probe(tags, low, high, tables, parent, start, other):
    mask = np.uint32(tables.shape[1] - 1)
    for band in range(low, high):
        for text in range(tags.shape[0]):
            tag = tags[text, band]
            slot = tag & mask
            while tag != 0:
                entry = tables[band, slot]
                if entry == 0:
                    break
                if entry >> np.uint64(32) == tag:
                    found = np.int64(entry & np.uint64(0xFFFFFFFF))
                    union(parent, start + text, other + found)
                    break
                slot = (slot + np.uint32(1)) & mask


@kernel
def join(parent, other):
    for text in range(parent.size):
        if other[text] != text:
            union(parent, text, np.int64(other[text]))
