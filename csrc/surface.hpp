// Distances from the surface of one mask to that of another, by one of three definitions of surface.
#pragma once

#include <bitset>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "bit_grid.hpp"
#include "marching.hpp"
#include "nearest_bit.hpp"
#include "nearest_triangle.hpp"
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

[[nodiscard]] inline SurfaceToSurface middles_to_triangles(const CellMesh& from, const CellMesh& to, int threads) {
    std::vector<CellPoint> middles;
    SurfaceToSurface out;
    for_each_bit(from.cells(), [&](Index z, Index y, Index x) {
        for (const Triangle& t : from.in_cell(z, y, x)) {
            Point middle{};
            for (const Point& p : t)
                for (std::size_t a = 0; a < 3; ++a) middle[a] += p[a] / 3;
            middles.push_back({{z, y, x}, middle});
            out.weight.push_back(triangle_area(t));
        }
    });
    out.distance_mm = nearest_triangles(middles, to, threads);
    return out;
}

}  // namespace detail

// a and b: the same box of two masks. border: voxels with a face neighbour outside, weight 1. surfel: cells whose
// corners differ, weighted by the area of their triangles. triangle: triangle middles, weighted by area, to triangles.
[[nodiscard]] inline SurfacePair surface_distances(const BitGrid& a, const BitGrid& b, const Spacing& spacing,
                                                   Definition definition, int threads) {
    SurfacePair pair;
    if (definition == Definition::triangle) {
        const CellMesh mesh_a(a, spacing), mesh_b(b, spacing);
        pair.a_to_b = detail::middles_to_triangles(mesh_a, mesh_b, threads);
        pair.b_to_a = detail::middles_to_triangles(mesh_b, mesh_a, threads);
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
