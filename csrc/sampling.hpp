// Points spread evenly over the surface of a mask: one at random in each of n equal shares of its area.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "nearest_triangle.hpp"

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
[[nodiscard]] inline std::vector<Point> surface_points(const BitGrid& mask, Index n, std::uint64_t seed, const Spacing& spacing) {
    const auto triangles = CellMesh(mask, spacing).triangles();
    std::vector<Point> points;
    if (triangles.empty()) return points;
    double total = 0;
    for (const Triangle& t : triangles) total += triangle_area(t);
    SplitMix64 random(seed);
    std::size_t at = 0;
    double before = 0, area = triangle_area(triangles[0]);
    points.reserve(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) {
        const double target = (static_cast<double>(i) + random.uniform()) / static_cast<double>(n) * total;
        while (at + 1 < triangles.size() && before + area <= target) {
            before += area;
            area = triangle_area(triangles[++at]);
        }
        const double r = std::sqrt(random.uniform()), s = random.uniform();
        const Triangle& t = triangles[at];
        Point p{};
        for (std::size_t a = 0; a < 3; ++a) p[a] = (1 - r) * t[0][a] + r * (1 - s) * t[1][a] + r * s * t[2][a];
        points.push_back(p);
    }
    return points;
}

}  // namespace kidseg
