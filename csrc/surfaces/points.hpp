// Points spread evenly over the surface of a mask: one at random in each of n equal shares of its area.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "surfaces/nearest_triangle.hpp"

namespace kidseg {

// SplitMix64: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA.
class SplitMix64 {
public:
    explicit SplitMix64(std::uint64_t seed) : state_(seed) {}
    [[nodiscard]] double uniform() {  // [0, 1)
        std::uint64_t x = (state_ += 0x9e3779b97f4a7c15ULL);
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
        return static_cast<double>((x ^ (x >> 31)) >> 11) * 0x1p-53;
    }

private:
    std::uint64_t state_;
};

// n points in mm from the middle of voxel (0, 0, 0) of the padded grid; none where the mask is empty.
[[nodiscard]] inline std::vector<Point> surface_points(const BitGrid& mask, Index n, std::uint64_t seed,
                                                       const Spacing& spacing) {
    const CellMesh mesh(mask, spacing);
    const auto for_each_triangle = [&](auto&& visit) {
        for (Index plane = 0; plane < mask.shape()[0]; ++plane)
            mesh.in_plane(plane, [&](Index z, Index y, Index x, Triangle t) {
                for (Point& p : t)
                    p = {p[0] + double(z) * spacing[0], p[1] + double(y) * spacing[1], p[2] + double(x) * spacing[2]};
                visit(t);
            });
    };
    double total = 0;
    for_each_triangle([&](const Triangle& t) { total += triangle_area(t); });
    std::vector<Point> points;
    if (total == 0) return points;
    points.reserve(static_cast<std::size_t>(n));
    SplitMix64 random(seed);
    Index i = 0;
    double target = 0, before = 0;
    const auto next = [&] { target = (static_cast<double>(i) + random.uniform()) / static_cast<double>(n) * total; };
    const auto put_on = [&](const Triangle& t) {
        const double r = std::sqrt(random.uniform()), s = random.uniform();
        Point p{};
        for (std::size_t a = 0; a < 3; ++a) p[a] = (1 - r) * t[0][a] + r * (1 - s) * t[1][a] + r * s * t[2][a];
        points.push_back(p);
        ++i;
        next();
    };
    Triangle last{};
    next();
    for_each_triangle([&](const Triangle& t) {
        before += triangle_area(t);
        while (i < n && target < before) put_on(t);
        last = t;
    });
    while (i < n) put_on(last);  // what rounding left over
    return points;
}

}  // namespace kidseg
