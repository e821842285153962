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
#include "near_rows.hpp"
#include "threads.hpp"

namespace kidseg {

// Distance in mm of each voxel to the nearest set bit of `to`; infinity where no bit is set.
[[nodiscard]] inline std::vector<double> nearest_bits(const std::vector<Index3>& from, const BitGrid& to, const Spacing& spacing,
                                                      int threads) {
    constexpr std::size_t chunk = 2048;
    const NearRows near = near_rows(spacing, 8, 0);
    const Index3 n = to.shape();
    const Index words = to.words_per_row(), within = n[2];
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
    std::vector<double> distance(from.size());
    for_each_task((from.size() + chunk - 1) / chunk, threads, [&](std::size_t task) {
        for (std::size_t i = task * chunk; i < std::min(from.size(), (task + 1) * chunk); ++i) {
            const Index3& v = from[i];
            double best = std::numeric_limits<double>::infinity();
            for (const RowOffset& row : near.rows) {
                if (row.squared_mm >= best) break;
                const Index z = v[0] + row.dz, y = v[1] + row.dy;
                if (z < 0 || z >= n[0] || y < 0 || y >= n[1]) continue;
                const Word* bits = to.row(z, y);
                Index steps = steps_up(bits, words, v[2], within);
                if (steps > 0) steps = std::min(steps, steps_down(bits, v[2], steps));
                if (steps > within) continue;
                const double x_mm = static_cast<double>(steps) * spacing[2];
                best = std::min(best, row.squared_mm + x_mm * x_mm);
            }
            if (best > near.squared_limit_mm) best = far(v, best);
            distance[i] = std::sqrt(best);
        }
    });
    return distance;
}

}  // namespace kidseg
