// Distances from the surface of one mask to that of another, by one of three definitions of surface.
#pragma once

#include <bitset>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "surfaces/bit_grid.hpp"
#include "surfaces/marching_cubes.hpp"
#include "surfaces/nearest_bit.hpp"
#include "surfaces/nearest_triangle.hpp"
#include "base/threads.hpp"

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

// Elements [first[z], first[z + 1]) lie in plane z, which holds count(z) of them.
template <class Count>
[[nodiscard]] std::vector<std::size_t> firsts_of_planes(Index planes, Count&& count) {
    std::vector<std::size_t> first(static_cast<std::size_t>(planes + 1));
    for (Index z = 0; z < planes; ++z)
        first[static_cast<std::size_t>(z) + 1] = first[static_cast<std::size_t>(z)] + count(z);
    return first;
}

[[nodiscard]] inline std::vector<double> bits_to_bits(const BitGrid& from, const BitGrid& to, const Spacing& spacing,
                                                      int threads) {
    const auto first = firsts_of_planes(from.shape()[0], [&](Index z) {
        std::size_t n = 0;
        for_each_bit_in(from, z, [&](Index, Index, Index) { ++n; });
        return n;
    });
    std::vector<double> distance(first.back());
    NearestBit nearest(to, spacing);
    for_each_task(first.size() - 1, threads, [&](std::size_t plane) {
        std::size_t i = first[plane];
        for_each_bit_in(from, static_cast<Index>(plane),
                        [&](Index z, Index y, Index x) { distance[i++] = nearest({z, y, x}); });
    });
    return distance;
}

[[nodiscard]] inline SurfaceToSurface middles_to_triangles(const CellMesh& from, const CellMesh& to, int threads) {
    const auto first = firsts_of_planes(from.mask().shape()[0], [&](Index z) { return from.count_in_plane(z); });
    SurfaceToSurface out{std::vector<double>(first.back()), std::vector<double>(first.back())};
    NearestTriangle nearest(to);
    for_each_task(first.size() - 1, threads, [&](std::size_t plane) {
        std::size_t i = first[plane];
        from.in_plane(static_cast<Index>(plane), [&](Index z, Index y, Index x, const Triangle& t) {
            Point middle{};
            for (const Point& p : t)
                for (std::size_t a = 0; a < 3; ++a) middle[a] += p[a] / 3;
            out.distance_mm[i] = nearest({{z, y, x}, middle});
            out.weight[i++] = triangle_area(t);
        });
    });
    return out;
}

}  // namespace detail

// a and b: the same box of two masks. border: voxels with a face neighbour outside, weight 1. surfel: cells whose
// corners differ, weighted by the area of their triangles. triangle: triangle middles, weighted by area, to triangles.
[[nodiscard]] inline SurfacePair surface_distances(BitGrid a, BitGrid b, const Spacing& spacing, Definition definition,
                                                   int threads) {
    SurfacePair pair;
    if (definition == Definition::triangle) {
        const CellMesh mesh_a(a, spacing), mesh_b(b, spacing);
        pair.a_to_b = detail::middles_to_triangles(mesh_a, mesh_b, threads);
        pair.b_to_a = detail::middles_to_triangles(mesh_b, mesh_a, threads);
        return pair;
    }
    std::vector<double> weight_a, weight_b;
    if (definition == Definition::border) {
        keep_border(a);
        keep_border(b);
    } else {
        const auto areas = detail::cell_areas(spacing);
        const auto weighed = [&](BitGrid& mask) {
            std::size_t n = 0, i = 0;
            for (Index z = 0; z < mask.shape()[0]; ++z)
                for_each_mixed_cell_in(mask, z, [&](Index, Index, Index) { ++n; });
            std::vector<double> weight(n);
            replace_by_mixed_cells(mask,
                                   [&](Index z, Index y, Index x) { weight[i++] = areas[cell_code(mask, z, y, x)]; });
            return weight;
        };
        weight_a = weighed(a);
        weight_b = weighed(b);
    }
    pair.a_to_b = {detail::bits_to_bits(a, b, spacing, threads), std::move(weight_a)};
    pair.b_to_a = {detail::bits_to_bits(b, a, spacing, threads), std::move(weight_b)};
    for (SurfaceToSurface* side : {&pair.a_to_b, &pair.b_to_a}) side->weight.resize(side->distance_mm.size(), 1.0);
    return pair;
}

}  // namespace kidseg
