// Exact distance from voxels to the nearest set bit: rows of bits in order of their distance, then a tree of points
// for the few voxels whose nearest bit is far.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>
#include <vector>

#include "bit_grid.hpp"
#include "bvh.hpp"
#include "threads.hpp"

namespace kidseg {

namespace detail {

struct RowOffset {
    Index dz, dy;
    double squared_mm;
};

// Rows around (0, 0) by distance, all of those nearer than the returned limit.
[[nodiscard]] inline std::pair<std::vector<RowOffset>, double> near_rows(const Spacing& spacing, Index reach) {
    const double limit = static_cast<double>(reach + 1) * std::min(spacing[0], spacing[1]);
    std::vector<RowOffset> rows;
    for (Index dz = -reach; dz <= reach; ++dz)
        for (Index dy = -reach; dy <= reach; ++dy) {
            const double z = static_cast<double>(dz) * spacing[0], y = static_cast<double>(dy) * spacing[1];
            if (z * z + y * y < limit * limit) rows.push_back({dz, dy, z * z + y * y});
        }
    std::stable_sort(rows.begin(), rows.end(), [](const RowOffset& a, const RowOffset& b) { return a.squared_mm < b.squared_mm; });
    return {rows, limit * limit};
}

// Steps along x from x to the nearest set bit of a row, or more than 64 words' worth where there is none in reach.
[[nodiscard]] inline Index steps_in_row(const Word* row, Index words, Index x, Index within) {
    const Index w = x >> 6, bit = x & 63;
    Index best = within + 1;
    if (const Word up = row[w] >> bit; up != 0) best = std::min<Index>(best, __builtin_ctzll(up));
    else
        for (Index v = w + 1, step = 64 - bit; v < words && step < best; ++v, step += 64)
            if (row[v] != 0) best = std::min<Index>(best, step + __builtin_ctzll(row[v]));
    if (const Word down = row[w] << (63 - bit); down != 0) best = std::min<Index>(best, __builtin_clzll(down));
    else
        for (Index v = w - 1, step = bit + 1; v >= 0 && step < best; --v, step += 64)
            if (row[v] != 0) best = std::min<Index>(best, step + __builtin_clzll(row[v]));
    return best;
}

}  // namespace detail

// Distance in mm of each voxel to the nearest set bit of `to`; infinity where no bit is set.
[[nodiscard]] inline std::vector<double> nearest_bits(const std::vector<Index3>& from, const BitGrid& to, const Spacing& spacing,
                                                      int threads) {
    constexpr double inf = std::numeric_limits<double>::infinity();
    constexpr std::size_t chunk = 2048;
    const auto found = detail::near_rows(spacing, 8);
    const auto& rows = found.first;
    const double limit = found.second;
    const auto mm = [&](const Index3& v) {
        return Point{double(v[0]) * spacing[0], double(v[1]) * spacing[1], double(v[2]) * spacing[2]};
    };
    std::optional<Bvh<Point>> tree;
    std::once_flag planted;
    const auto far = [&](const Index3& v, double bound) {
        std::call_once(planted, [&] {
            std::vector<Point> points;
            for_each_bit(to, [&](Index z, Index y, Index x) { points.push_back(mm({z, y, x})); });
            tree.emplace(std::move(points));
        });
        return tree->nearest(mm(v), bound);
    };
    const Index3 n = to.shape();
    std::vector<double> distance(from.size());
    for_each_task((from.size() + chunk - 1) / chunk, threads, [&](std::size_t task) {
        for (std::size_t i = task * chunk; i < std::min(from.size(), (task + 1) * chunk); ++i) {
            const Index3& v = from[i];
            double best = inf;
            for (const auto& row : rows) {
                if (row.squared_mm >= best) break;
                const Index z = v[0] + row.dz, y = v[1] + row.dy;
                if (z < 0 || z >= n[0] || y < 0 || y >= n[1]) continue;
                const Index within = n[2];
                const Index steps = detail::steps_in_row(to.row(z, y), to.words_per_row(), v[2], within);
                if (steps > within) continue;
                const double x_mm = static_cast<double>(steps) * spacing[2];
                best = std::min(best, row.squared_mm + x_mm * x_mm);
            }
            if (best > limit) best = far(v, best);
            distance[i] = std::sqrt(best);
        }
    });
    return distance;
}

}  // namespace kidseg
