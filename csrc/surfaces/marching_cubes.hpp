// Triangles of the surface between set and unset corners of a cell, through the middles of its edges.
// Lorensen, Cline 1987, "Marching cubes", SIGGRAPH: the kind of corner that is fewer is kept apart on every face.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/grid.hpp"

namespace kidseg {

using Point = std::array<double, 3>;  // (z, y, x) mm
using Triangle = std::array<Point, 3>;

[[nodiscard]] inline double triangle_area(const Triangle& t) {
    Point u{}, v{};
    for (std::size_t i = 0; i < 3; ++i) {
        u[i] = t[1][i] - t[0][i];
        v[i] = t[2][i] - t[0][i];
    }
    const double a = u[1] * v[2] - u[2] * v[1], b = u[2] * v[0] - u[0] * v[2], c = u[0] * v[1] - u[1] * v[0];
    return 0.5 * std::sqrt(a * a + b * b + c * c);
}

// triangles[code]: corners of each triangle in cell units (0, 0.5, 1), turned so that normals point outwards.
struct CellSurfaces {
    std::array<std::vector<Triangle>, 256> triangles;
};

namespace detail {

[[nodiscard]] inline std::array<std::array<int, 4>, 6> cell_faces() {
    std::array<std::array<int, 4>, 6> faces{};
    for (int axis = 0; axis < 3; ++axis)
        for (int side = 0; side < 2; ++side) {
            const int bit = 4 >> axis, u = 4 >> (axis + 1) % 3, v = 4 >> (axis + 2) % 3;
            std::array<int, 4> corners{0, u, u | v, v};
            if (side == 0) corners = {0, v, u | v, u};
            for (int& c : corners) c |= side * bit;
            faces[static_cast<std::size_t>(2 * axis + side)] = corners;
        }
    return faces;
}

[[nodiscard]] inline Point edge_middle(int edge) {  // edge = 8 * lower corner + bit of its axis
    Point p{};
    for (int axis = 0; axis < 3; ++axis) {
        const int bit = 4 >> axis;
        p[static_cast<std::size_t>(axis)] = (edge % 8) == bit ? 0.5 : static_cast<double>((edge / 8 & bit) != 0);
    }
    return p;
}

// Where the fan over a loop of edges starts. A pentagon starts beside the middle one of its three parallel edges, a
// hexagon at an edge that has no parallel neighbour: the surface-distance package's table, up to equal areas.
[[nodiscard]] inline std::size_t fan_start(const std::vector<int>& loop) {
    const std::size_t n = loop.size(), parallel = n == 5 ? 1 : 0;
    for (std::size_t i = 0; i < n; ++i) {
        const int axis = loop[i] % 8;
        const bool before = loop[(i + n - 1) % n] % 8 == axis, after = loop[(i + 1) % n] % 8 == axis;
        if (static_cast<std::size_t>(before) + static_cast<std::size_t>(after) == parallel) return i;
    }
    return 0;
}

// A loop cut into triangles that share one corner: the first corner that gives the largest area.
[[nodiscard]] inline std::vector<Triangle> largest_fan(const std::vector<Point>& loop) {
    const std::size_t n = loop.size();
    std::vector<Triangle> best;
    double most = 0;
    for (std::size_t k = 0; k < n; ++k) {
        std::vector<Triangle> fan;
        double area = 0;
        for (std::size_t i = 1; i + 1 < n; ++i) {
            fan.push_back({loop[k], loop[(k + i) % n], loop[(k + i + 1) % n]});
            area += triangle_area(fan.back());
        }
        if (area > most + 1e-9) {
            most = area;
            best = std::move(fan);
        }
    }
    return best;
}

// For at most four set corners; each loop runs through the faces so that set corners stay apart.
[[nodiscard]] inline std::vector<Triangle> triangles_of(unsigned code) {
    std::array<int, 64> next{};
    next.fill(-1);
    const auto set = [&](int corner) { return (code >> corner & 1u) != 0; };
    for (const auto& face : cell_faces())
        for (std::size_t i = 0; i < 4; ++i) {
            const int a = face[i], b = face[(i + 1) % 4];
            if (set(a) || !set(b)) continue;  // the surface enters the face here and leaves after the set corners
            std::size_t j = i + 1;
            while (set(face[(j + 1) % 4])) ++j;
            const int c = face[j % 4], d = face[(j + 1) % 4];
            next[static_cast<std::size_t>(8 * std::min(a, b) + (a ^ b))] = 8 * std::min(c, d) + (c ^ d);
        }
    std::vector<Triangle> triangles;
    for (std::size_t start = 0; start < next.size(); ++start) {
        std::vector<Point> loop;
        for (std::size_t e = start; next[e] >= 0;) {
            loop.push_back(edge_middle(static_cast<int>(e)));
            e = static_cast<std::size_t>(std::exchange(next[e], -1));
        }
        if (loop.empty()) continue;
        const auto best = largest_fan(loop);
        triangles.insert(triangles.end(), best.begin(), best.end());
    }
    return triangles;
}

}  // namespace detail

[[nodiscard]] inline const CellSurfaces& cell_surfaces() {
    static const CellSurfaces table = [] {
        CellSurfaces t;
        for (unsigned code = 0; code < 256; ++code) {
            const bool few = __builtin_popcount(code) <= 4;
            t.triangles[code] = detail::triangles_of(few ? code : 255 - code);
            if (!few)
                for (Triangle& triangle : t.triangles[code]) std::swap(triangle[1], triangle[2]);
        }
        return t;
    }();
    return table;
}

}  // namespace kidseg
