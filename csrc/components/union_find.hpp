// Disjoint sets over 32-bit ids; the smallest id of a set is its root, so the order of unions leaves no trace.
#pragma once

#include <cstdint>
#include <vector>

namespace kidseg {

using RunId = std::uint32_t;

// Path halving keeps parent[i] <= i for every i.
[[nodiscard]] inline RunId find_root(RunId* parent, RunId i) {
    while (parent[i] != i) {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    return i;
}

inline void unite(RunId* parent, RunId a, RunId b) {
    a = find_root(parent, a);
    b = find_root(parent, b);
    if (a < b) {
        parent[b] = a;
    } else {
        parent[a] = b;
    }
}

// Roots become 0, 1, 2, ... in order of id, every other entry its root's number; returns how many there are.
[[nodiscard]] inline RunId number_sets(std::vector<RunId>& parent) {
    RunId n = 0;
    for (RunId i = 0; i < parent.size(); ++i) parent[i] = parent[i] == i ? n++ : parent[parent[i]];
    return n;
}

}  // namespace kidseg
