// Exact distance from points on one marching-cubes surface to the triangles of another: cells in order of their
// distance, then a tree of triangles for the few points whose nearest triangle is far.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>
#include <vector>

#include "surfaces/bit_grid.hpp"
#include "surfaces/cell_tree.hpp"
#include "surfaces/marching_cubes.hpp"
#include "surfaces/near_rows.hpp"

namespace kidseg {

[[nodiscard]] inline double squared_distance(const Point& p, const Point& q) {
    const double dz = p[0] - q[0], dy = p[1] - q[1], dx = p[2] - q[2];
    return dz * dz + dy * dy + dx * dx;
}

// Ericson 2005, "Real-time collision detection", 5.1.5.
[[nodiscard]] inline double squared_distance(const Point& p, const Triangle& t) {
    const auto sub = [](const Point& a, const Point& b) { return Point{a[0] - b[0], a[1] - b[1], a[2] - b[2]}; };
    const auto dot = [](const Point& a, const Point& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; };
    const auto along = [](const Point& a, const Point& d, double s) {
        return Point{a[0] + s * d[0], a[1] + s * d[1], a[2] + s * d[2]};
    };
    const Point ab = sub(t[1], t[0]), ac = sub(t[2], t[0]), ap = sub(p, t[0]);
    const double d1 = dot(ab, ap), d2 = dot(ac, ap);
    if (d1 <= 0 && d2 <= 0) return squared_distance(p, t[0]);
    const Point bp = sub(p, t[1]);
    const double d3 = dot(ab, bp), d4 = dot(ac, bp);
    if (d3 >= 0 && d4 <= d3) return squared_distance(p, t[1]);
    const double vc = d1 * d4 - d3 * d2;
    if (vc <= 0 && d1 >= 0 && d3 <= 0) return squared_distance(p, along(t[0], ab, d1 / (d1 - d3)));
    const Point cp = sub(p, t[2]);
    const double d5 = dot(ab, cp), d6 = dot(ac, cp);
    if (d6 >= 0 && d5 <= d6) return squared_distance(p, t[2]);
    const double vb = d5 * d2 - d1 * d6;
    if (vb <= 0 && d2 >= 0 && d6 <= 0) return squared_distance(p, along(t[0], ac, d2 / (d2 - d6)));
    const double va = d3 * d6 - d5 * d4;
    if (va <= 0 && d4 - d3 >= 0 && d5 - d6 >= 0)
        return squared_distance(p, along(t[1], sub(t[2], t[1]), (d4 - d3) / ((d4 - d3) + (d5 - d6))));
    const double scale = 1 / (va + vb + vc);
    return squared_distance(p, along(along(t[0], ab, vb * scale), ac, vc * scale));
}

// The surface of a mask cell by cell; triangles are in mm from the first corner of their cell.
class CellMesh {
public:
    CellMesh(const BitGrid& mask, const Spacing& spacing) : mask_(mask), spacing_(spacing) {}

    [[nodiscard]] const BitGrid& mask() const { return mask_; }
    [[nodiscard]] const Spacing& spacing() const { return spacing_; }

    // visit(triangle) for each triangle of a cell.
    template <class Visit>
    void in_cell(Index z, Index y, Index x, Visit&& visit) const {
        for (Triangle t : in_steps(z, y, x)) {
            for (Point& p : t) p = {p[0] * spacing_[0], p[1] * spacing_[1], p[2] * spacing_[2]};
            visit(t);
        }
    }
    // visit(z, y, x, triangle) for every triangle of the cells of plane z.
    template <class Visit>
    void in_plane(Index z, Visit&& visit) const {
        for_each_mixed_cell_in(mask_, z, [&](Index, Index y, Index x) {
            in_cell(z, y, x, [&](const Triangle& t) { visit(z, y, x, t); });
        });
    }
    [[nodiscard]] std::size_t count_in_plane(Index z) const {
        std::size_t n = 0;
        for_each_mixed_cell_in(mask_, z, [&](Index, Index y, Index x) { n += in_steps(z, y, x).size(); });
        return n;
    }

private:
    [[nodiscard]] const std::vector<Triangle>& in_steps(Index z, Index y, Index x) const {
        return surfaces_.triangles[cell_code(mask_, z, y, x)];
    }

    const BitGrid& mask_;
    Spacing spacing_;
    const CellSurfaces& surfaces_ = cell_surfaces();
};

// A point in a cell, in mm from the cell's first corner.
struct CellPoint {
    Index3 cell;
    Point at;
};

class NearestTriangle {
public:
    explicit NearestTriangle(const CellMesh& to) : to_(to), cells_(to.mask()), near_(near_rows(to.spacing(), 6, 1)) {
        replace_by_mixed_cells(cells_, [](Index, Index, Index) {});
    }

    // Distance in mm of a point to the nearest triangle; infinity where there is none. Threads may ask at once.
    [[nodiscard]] double operator()(const CellPoint& p) {
        const Index3 n = cells_.shape();
        const Index words = cells_.words_per_row();
        double best = std::numeric_limits<double>::infinity();
        for (const RowOffset& row : near_.rows) {
            if (row.squared_mm >= best) break;
            const Index z = p.cell[0] + row.dz, y = p.cell[1] + row.dy, x = p.cell[2];
            if (z < 0 || z >= n[0] || y < 0 || y >= n[1]) continue;
            const double row_gap = gap(p, 0, row.dz) + gap(p, 1, row.dy);
            if (row_gap >= best) continue;
            const Word* bits = cells_.row(z, y);
            for (Index dx = 0; row_gap + gap(p, 2, dx) < best;) {
                const Index steps = steps_up(bits, words, x + dx, n[2]);
                if (steps > n[2]) break;
                dx += steps;
                if (row_gap + gap(p, 2, dx) < best) best = std::min(best, in_cell(p, {z, y, x + dx}));
                ++dx;
            }
            for (Index dx = -1; row_gap + gap(p, 2, dx) < best;) {
                const Index steps = steps_down(bits, x + dx, n[2]);
                if (steps > n[2]) break;
                dx -= steps;
                if (row_gap + gap(p, 2, dx) < best) best = std::min(best, in_cell(p, {z, y, x + dx}));
                --dx;
            }
        }
        return std::sqrt(best > near_.squared_limit_mm ? far(p, best) : best);
    }

private:
    // Squared distance along one axis from the point to a cell d steps away.
    [[nodiscard]] double gap(const CellPoint& p, std::size_t axis, Index d) const {
        const double mm = d > 0   ? static_cast<double>(d) * to_.spacing()[axis] - p.at[axis]
                          : d < 0 ? p.at[axis] - static_cast<double>(d + 1) * to_.spacing()[axis]
                                  : 0.0;
        return mm * mm;
    }

    // Squared distance to the triangles of one cell.
    [[nodiscard]] double in_cell(const CellPoint& p, const Index3& cell) const {
        Point q = p.at;
        for (std::size_t a = 0; a < 3; ++a) q[a] += static_cast<double>(p.cell[a] - cell[a]) * to_.spacing()[a];
        double best = std::numeric_limits<double>::infinity();
        to_.in_cell(cell[0], cell[1], cell[2],
                    [&](const Triangle& t) { best = std::min(best, squared_distance(q, t)); });
        return best;
    }

    [[nodiscard]] double far(const CellPoint& p, double bound) {
        std::call_once(planted_, [&] { tree_.emplace(cells_, to_.spacing(), 1); });
        Point at = p.at;
        for (std::size_t a = 0; a < 3; ++a) at[a] += static_cast<double>(p.cell[a]) * to_.spacing()[a];
        return tree_->nearest(
            at, bound, [&](const CellTree::Cell& c) { return in_cell(p, {Index{c[0]}, Index{c[1]}, Index{c[2]}}); });
    }

    const CellMesh& to_;
    BitGrid cells_;
    NearRows near_;
    std::optional<CellTree> tree_;
    std::once_flag planted_;
};

}  // namespace kidseg
