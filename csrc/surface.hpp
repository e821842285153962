// Distances from the surface of one mask to that of another, by one of three definitions of surface.
#pragma once

#include <bitset>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "bit_grid.hpp"
#include "bvh.hpp"
#include "marching.hpp"
#include "nearest_bit.hpp"
#include "threads.hpp"

namespace kidseg {

enum class Definition { border, surfel, triangle };

// Distances in mm of each surface element to the other surface, and what each element weighs.
struct SurfaceToSurface {
    std::vector<double> distance_mm;
    std::vector<double> weight;
};

struct SurfacePair {
    SurfaceToSurface a_to_b, b_to_a;
};

// All triangles of the surface of a mask, in mm from the middle of voxel (0, 0, 0) of the padded grid.
[[nodiscard]] inline std::vector<Triangle> surface_triangles(const BitGrid& mask, const Spacing& spacing) {
    std::vector<Triangle> triangles;
    for_each_bit(mixed_cells(mask), [&](Index z, Index y, Index x) {
        for (Triangle t : cell_surfaces().triangles[cell_code(mask, z, y, x)]) {
            for (Point& p : t) p = {(p[0] + double(z)) * spacing[0], (p[1] + double(y)) * spacing[1], (p[2] + double(x)) * spacing[2]};
            triangles.push_back(t);
        }
    });
    return triangles;
}

namespace detail {

// A cell and its complement have one area, as in the surface-distance package: the fewer corners are kept apart.
[[nodiscard]] inline std::array<double, 256> cell_areas(const Spacing& spacing) {
    std::array<double, 256> areas{};
    for (std::size_t code = 0; code < 256; ++code)
        for (Triangle t : cell_surfaces().triangles[std::bitset<8>(code).count() > 4 ? 255 - code : code]) {
            for (Point& p : t) p = {p[0] * spacing[0], p[1] * spacing[1], p[2] * spacing[2]};
            areas[code] += triangle_area(t);
        }
    return areas;
}

[[nodiscard]] inline SurfaceToSurface bits_to_bits(const BitGrid& from, const BitGrid& to, const Spacing& spacing, int threads) {
    std::vector<Index3> elements;
    for_each_bit(from, [&](Index z, Index y, Index x) { elements.push_back({z, y, x}); });
    SurfaceToSurface out;
    out.distance_mm = nearest_bits(elements, to, spacing, threads);
    out.weight.assign(elements.size(), 1.0);
    return out;
}

[[nodiscard]] inline SurfaceToSurface points_to_triangles(const std::vector<Triangle>& from, const Bvh<Triangle>& to, int threads) {
    constexpr std::size_t chunk = 1024;
    SurfaceToSurface out;
    out.distance_mm.resize(from.size());
    out.weight.resize(from.size());
    for_each_task((from.size() + chunk - 1) / chunk, threads, [&](std::size_t task) {
        for (std::size_t i = task * chunk; i < std::min(from.size(), (task + 1) * chunk); ++i) {
            Point middle{};
            for (const Point& p : from[i])
                for (std::size_t a = 0; a < 3; ++a) middle[a] += p[a] / 3;
            out.distance_mm[i] = std::sqrt(to.nearest(middle));
            out.weight[i] = triangle_area(from[i]);
        }
    });
    return out;
}

}  // namespace detail

// a and b: the same box of two masks. border: voxels with a face neighbour outside, weight 1. surfel: cells whose
// corners differ, weighted by the area of their triangles. triangle: triangle middles, weighted by area, to triangles.
[[nodiscard]] inline SurfacePair surface_distances(const BitGrid& a, const BitGrid& b, const Spacing& spacing,
                                                   Definition definition, int threads) {
    SurfacePair pair;
    if (definition == Definition::triangle) {
        const auto ta = surface_triangles(a, spacing), tb = surface_triangles(b, spacing);
        pair.a_to_b = detail::points_to_triangles(ta, Bvh<Triangle>(tb), threads);
        pair.b_to_a = detail::points_to_triangles(tb, Bvh<Triangle>(ta), threads);
        return pair;
    }
    const bool border = definition == Definition::border;
    const BitGrid sa = border ? border_of(a) : mixed_cells(a), sb = border ? border_of(b) : mixed_cells(b);
    pair.a_to_b = detail::bits_to_bits(sa, sb, spacing, threads);
    pair.b_to_a = detail::bits_to_bits(sb, sa, spacing, threads);
    if (!border) {
        const auto areas = detail::cell_areas(spacing);
        const auto weigh = [&](const BitGrid& mask, const BitGrid& cells, SurfaceToSurface& out) {
            std::size_t i = 0;
            for_each_bit(cells, [&](Index z, Index y, Index x) { out.weight[i++] = areas[cell_code(mask, z, y, x)]; });
        };
        weigh(a, sa, pair.a_to_b);
        weigh(b, sb, pair.b_to_a);
    }
    return pair;
}

}  // namespace kidseg
