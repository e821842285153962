// Exact distance from voxels to the nearest set bit: rows of bits in order of their distance, then a tree for the few
// voxels whose nearest bit is far.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>

#include "surfaces/bit_grid.hpp"
#include "surfaces/cell_tree.hpp"
#include "surfaces/near_rows.hpp"

namespace kidseg {

class NearestBit {
public:
    NearestBit(const BitGrid& to, const Spacing& spacing)
        : to_(to), spacing_(spacing), near_(near_rows(spacing, 8, 0)) {}

    // Distance in mm of a voxel to the nearest set bit; infinity where no bit is set. Threads may ask at the same time.
    [[nodiscard]] double operator()(const Index3& v) {
        const Index3 n = to_.shape();
        const Index words = to_.words_per_row(), within = n[2];
        double best = std::numeric_limits<double>::infinity();
        for (const RowOffset& row : near_.rows) {
            if (row.squared_mm >= best) break;
            const Index z = v[0] + row.dz, y = v[1] + row.dy;
            if (z < 0 || z >= n[0] || y < 0 || y >= n[1]) continue;
            const Word* bits = to_.row(z, y);
            Index steps = steps_up(bits, words, v[2], within);
            if (steps > 0) steps = std::min(steps, steps_down(bits, v[2], steps));
            if (steps > within) continue;
            const double x_mm = static_cast<double>(steps) * spacing_[2];
            best = std::min(best, row.squared_mm + x_mm * x_mm);
        }
        return std::sqrt(best > near_.squared_limit_mm ? far(v, best) : best);
    }

private:
    [[nodiscard]] double far(const Index3& v, double bound) {
        std::call_once(planted_, [&] { tree_.emplace(to_, spacing_, 0); });
        const Point p{double(v[0]) * spacing_[0], double(v[1]) * spacing_[1], double(v[2]) * spacing_[2]};
        return tree_->nearest(p, bound, [&](const CellTree::Cell& c) {
            double sum = 0;
            for (std::size_t a = 0; a < 3; ++a) {
                const double mm = static_cast<double>(v[a] - Index{c[a]}) * spacing_[a];
                sum += mm * mm;
            }
            return sum;
        });
    }

    const BitGrid& to_;
    Spacing spacing_;
    NearRows near_;
    std::optional<CellTree> tree_;
    std::once_flag planted_;
};

}  // namespace kidseg
