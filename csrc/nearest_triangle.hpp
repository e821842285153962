// Exact distance from points on one marching-cubes surface to the triangles of another: cells in order of their
// distance, then a tree of triangles for the few points whose nearest triangle is far.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>
#include <vector>

#include "bit_grid.hpp"
#include "bvh.hpp"
#include "marching.hpp"
#include "near_rows.hpp"
#include "threads.hpp"

namespace kidseg {

// The surface of a mask cell by cell; triangles are in mm from the first corner of their cell.
class CellMesh {
public:
    CellMesh(const BitGrid& mask, const Spacing& spacing) : mask_(mask), cells_(mixed_cells(mask)), spacing_(spacing), table_(cell_surfaces()) {
        for (auto& triangles : table_.triangles)
            for (Triangle& t : triangles)
                for (Point& p : t)
                    for (std::size_t a = 0; a < 3; ++a) p[a] *= spacing[a];
    }

    [[nodiscard]] const BitGrid& cells() const { return cells_; }
    [[nodiscard]] const Spacing& spacing() const { return spacing_; }
    [[nodiscard]] const std::vector<Triangle>& in_cell(Index z, Index y, Index x) const {
        return table_.triangles[cell_code(mask_, z, y, x)];
    }
    // In mm from the middle of voxel (0, 0, 0) of the padded grid.
    [[nodiscard]] std::vector<Triangle> triangles() const {
        std::vector<Triangle> all;
        for_each_bit(cells_, [&](Index z, Index y, Index x) {
            for (Triangle t : in_cell(z, y, x)) {
                for (Point& p : t) p = {p[0] + double(z) * spacing_[0], p[1] + double(y) * spacing_[1], p[2] + double(x) * spacing_[2]};
                all.push_back(t);
            }
        });
        return all;
    }

private:
    const BitGrid& mask_;
    BitGrid cells_;
    Spacing spacing_;
    CellSurfaces table_;
};

// A point in a cell, in mm from the cell's first corner.
struct CellPoint {
    Index3 cell;
    Point at;
};

// Distance in mm of each point to the nearest triangle of `to`; infinity where there is none.
[[nodiscard]] inline std::vector<double> nearest_triangles(const std::vector<CellPoint>& from, const CellMesh& to, int threads) {
    constexpr std::size_t chunk = 1024;
    const Spacing& spacing = to.spacing();
    const NearRows near = near_rows(spacing, 6, 1);
    const Index3 n = to.cells().shape();
    const Index words = to.cells().words_per_row();
    std::optional<Bvh<Triangle>> tree;
    std::once_flag planted;
    const auto far = [&](const CellPoint& p, double bound) {
        std::call_once(planted, [&] { tree.emplace(to.triangles()); });
        Point at = p.at;
        for (std::size_t a = 0; a < 3; ++a) at[a] += static_cast<double>(p.cell[a]) * spacing[a];
        return tree->nearest(at, bound);
    };
    // Squared distance along one axis from the point to a cell d steps away.
    const auto gap = [&](const CellPoint& p, std::size_t axis, Index d) {
        const double mm = d > 0 ? static_cast<double>(d) * spacing[axis] - p.at[axis]
                                : d < 0 ? p.at[axis] - static_cast<double>(d + 1) * spacing[axis] : 0.0;
        return mm * mm;
    };
    const auto nearest = [&](const CellPoint& p) {
        double best = std::numeric_limits<double>::infinity();
        const auto look = [&](Index dz, Index dy, Index dx) {
            const Point q{p.at[0] - double(dz) * spacing[0], p.at[1] - double(dy) * spacing[1], p.at[2] - double(dx) * spacing[2]};
            for (const Triangle& t : to.in_cell(p.cell[0] + dz, p.cell[1] + dy, p.cell[2] + dx)) best = std::min(best, squared_distance(q, t));
        };
        for (const RowOffset& row : near.rows) {
            if (row.squared_mm >= best) break;
            const Index z = p.cell[0] + row.dz, y = p.cell[1] + row.dy, x = p.cell[2];
            if (z < 0 || z >= n[0] || y < 0 || y >= n[1]) continue;
            const double row_gap = gap(p, 0, row.dz) + gap(p, 1, row.dy);
            if (row_gap >= best) continue;
            const Word* bits = to.cells().row(z, y);
            for (Index dx = 0; row_gap + gap(p, 2, dx) < best;) {
                const Index steps = steps_up(bits, words, x + dx, n[2]);
                if (steps > n[2]) break;
                dx += steps;
                if (row_gap + gap(p, 2, dx) < best) look(row.dz, row.dy, dx);
                ++dx;
            }
            for (Index dx = -1; row_gap + gap(p, 2, dx) < best;) {
                const Index steps = steps_down(bits, x + dx, n[2]);
                if (steps > n[2]) break;
                dx -= steps;
                if (row_gap + gap(p, 2, dx) < best) look(row.dz, row.dy, dx);
                --dx;
            }
        }
        return best > near.squared_limit_mm ? far(p, best) : best;
    };
    std::vector<double> distance(from.size());
    for_each_task((from.size() + chunk - 1) / chunk, threads, [&](std::size_t task) {
        for (std::size_t i = task * chunk; i < std::min(from.size(), (task + 1) * chunk); ++i) distance[i] = std::sqrt(nearest(from[i]));
    });
    return distance;
}

}  // namespace kidseg
