// What to keep of a label grid: the largest components, those above a size, and voxels that fill enclosed holes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <vector>

#include "components/components.hpp"

namespace kidseg {

// keep[c] is 1 for the k largest components of each label; of equal ones the first in scan order.
template <class T>
[[nodiscard]] std::vector<std::uint8_t> largest(const Components<T>& components, Index k) {
    const auto counts = components.voxel_counts();
    const auto labels = components.source_labels();
    std::vector<RunId> order(counts.size());
    std::iota(order.begin(), order.end(), RunId{0});
    std::stable_sort(order.begin(), order.end(), [&](RunId a, RunId b) {
        return labels[a] != labels[b] ? labels[a] < labels[b] : counts[a] > counts[b];
    });
    std::vector<std::uint8_t> keep(counts.size());
    Index taken = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
        if (i > 0 && labels[order[i]] != labels[order[i - 1]]) taken = 0;
        keep[order[i]] = taken++ < k;
    }
    return keep;
}

[[nodiscard]] inline std::vector<std::uint8_t> at_least(const ComponentRuns& components, Index min_voxels) {
    const auto counts = components.voxel_counts();
    std::vector<std::uint8_t> keep(counts.size());
    std::transform(counts.begin(), counts.end(), keep.begin(), [&](Index count) { return count >= min_voxels; });
    return keep;
}

// Zeros of `given` with no 6-connected way to the border of the grid, set in `out` to the label most of
// their faces touch (of equal ones the smallest). `out` starts as a copy of `given`; a flat grid is 2-D.
template <class T>
void fill_holes(const Grid<const T>& given, const Grid<T>& out, bool flat, int threads) {
    const Components<T> holes(given, 6, RunsOf::background, threads);
    const Axes axes = holes.axes();
    const Index3 n = holes.shape();
    const Grid<const T> in = reordered(given, axes);
    std::vector<std::uint8_t> open(static_cast<std::size_t>(holes.size()));
    const auto edge = [](Index i, Index size) { return i == 0 || i == size - 1; };
    holes.for_each_run(1, [&](Index z, Index y, const Run& run, RunId c) {
        if ((!flat && edge(z, n[0])) || edge(y, n[1]) || run.begin == 0 || run.end == n[2]) open[c] = 1;
    });
    std::vector<std::map<T, Index>> faces(open.size());
    holes.for_each_run(1, [&](Index z, Index y, const Run& run, RunId c) {
        if (open[c]) return;
        const auto count = [&](Index zz, Index yy, Index x) {
            if (zz < 0 || zz >= n[0]) return;  // only where the grid is 2-D
            if (const T label = in.at(zz, yy, x); label != T{}) ++faces[c][label];
        };
        count(z, y, Index{run.begin} - 1);
        count(z, y, run.end);
        for (Index x = run.begin; x < run.end; ++x) {
            count(z - 1, y, x);
            count(z + 1, y, x);
            count(z, y - 1, x);
            count(z, y + 1, x);
        }
    });
    std::vector<T> label(open.size());
    for (std::size_t c = 0; c < open.size(); ++c) {
        Index most = 0;
        for (const auto& [value, count] : faces[c])
            if (count > most) {
                most = count;
                label[c] = value;
            }
    }
    holes.write(out, [&](RunId c) { return label[c]; });
}

}  // namespace kidseg
