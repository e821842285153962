// Rows of a grid around a place, nearest first, and steps to the nearest set bit within a row.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "surfaces/bit_grid.hpp"

namespace kidseg {

struct RowOffset {
    Index dz, dy;
    double squared_mm;  // no element of the row is nearer than the root of this
};

struct NearRows {
    std::vector<RowOffset> rows;
    double squared_limit_mm;  // every row that may hold an element nearer than the root of this is listed
};

// Elements are points (thick = 0) or fill their voxel, and so does the place (thick = 1).
[[nodiscard]] inline NearRows near_rows(const Spacing& spacing, Index reach, Index thick) {
    const double limit = static_cast<double>(reach + 1 - thick) * std::min(spacing[0], spacing[1]);
    const auto square = [](Index steps, double mm) { return static_cast<double>(steps * steps) * mm * mm; };
    const auto gap = [&](Index d) { return std::max<Index>(std::abs(d) - thick, 0); };
    NearRows near{{}, limit * limit};
    for (Index dz = -reach; dz <= reach; ++dz)
        for (Index dy = -reach; dy <= reach; ++dy) {
            const double mm2 = square(gap(dz), spacing[0]) + square(gap(dy), spacing[1]);
            if (mm2 < near.squared_limit_mm) near.rows.push_back({dz, dy, mm2});
        }
    std::stable_sort(near.rows.begin(), near.rows.end(), [&](const RowOffset& a, const RowOffset& b) {
        if (a.squared_mm != b.squared_mm) return a.squared_mm < b.squared_mm;
        return square(a.dz, spacing[0]) + square(a.dy, spacing[1]) <
               square(b.dz, spacing[0]) + square(b.dy, spacing[1]);
    });
    return near;
}

// Steps from x up to the first set bit at x or above, at most `within` + 1.
[[nodiscard]] inline Index steps_up(const Word* row, Index words, Index x, Index within) {
    if (x >= 64 * words) return within + 1;
    Index w = x >> 6;
    const Index bit = x & 63;
    if (const Word here = row[w] >> bit; here != 0) return std::min<Index>(within + 1, __builtin_ctzll(here));
    for (Index step = 64 - bit; ++w < words && step <= within; step += 64)
        if (row[w] != 0) return std::min<Index>(within + 1, step + __builtin_ctzll(row[w]));
    return within + 1;
}

// Steps from x down to the first set bit at x or below, at most `within` + 1.
[[nodiscard]] inline Index steps_down(const Word* row, Index x, Index within) {
    if (x < 0) return within + 1;
    Index w = x >> 6;
    const Index bit = x & 63;
    if (const Word here = row[w] << (63 - bit); here != 0) return std::min<Index>(within + 1, __builtin_clzll(here));
    for (Index step = bit + 1; --w >= 0 && step <= within; step += 64)
        if (row[w] != 0) return std::min<Index>(within + 1, step + __builtin_clzll(row[w]));
    return within + 1;
}

}  // namespace kidseg
