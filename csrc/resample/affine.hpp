// A volume seen on a grid that is turned, stretched or sheared in it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "base/grid.hpp"
#include "base/threads.hpp"

namespace kidseg {

// The source index of output voxel o is matrix o + offset, both (z, y, x).
struct Affine {
    std::array<std::array<double, 3>, 3> matrix{};
    std::array<double, 3> offset{};
};

namespace detail {

template <class T>
[[nodiscard]] T rounded(float value) {
    if constexpr (std::is_floating_point_v<T>) return value;
    else return static_cast<T>(std::nearbyint(value));
}

template <class T>
[[nodiscard]] T nearest_at(const Grid<const T>& in, const std::array<double, 3>& c) {
    Index3 i{};
    for (std::size_t a = 0; a < 3; ++a)
        i[a] = std::clamp<Index>(static_cast<Index>(std::nearbyint(c[a])), 0, in.shape[a] - 1);
    return in.at(i[0], i[1], i[2]);
}

template <class T>
[[nodiscard]] T linear_at(const Grid<const T>& in, const std::array<double, 3>& c) {
    Index3 low{}, step{};
    std::array<float, 3> part{};
    for (std::size_t a = 0; a < 3; ++a) {
        const double at = std::clamp(c[a], 0.0, static_cast<double>(in.shape[a] - 1));
        low[a] = static_cast<Index>(at);
        part[a] = static_cast<float>(at - static_cast<double>(low[a]));
        step[a] = low[a] + 1 < in.shape[a] ? in.stride[a] : 0;
    }
    const T* v = &in.at(low[0], low[1], low[2]);
    const auto along_x = [&](const T* p) {
        return static_cast<float>(p[0]) + part[2] * (static_cast<float>(p[step[2]]) - static_cast<float>(p[0]));
    };
    const auto along_y = [&](const T* p) {
        const float first = along_x(p);
        return first + part[1] * (along_x(p + step[1]) - first);
    };
    const float first = along_y(v);
    return rounded<T>(first + part[0] * (along_y(v + step[0]) - first));
}

}  // namespace detail

// out = `in` at the source index of each voxel, linear or at the nearest voxel; `fill` more than half a voxel outside.
template <class T>
void resample_affine(const Grid<const T>& in, const Affine& affine, bool nearest, T fill, const Grid<T>& out,
                     int threads) {
    const auto& m = affine.matrix;
    for_each_task(static_cast<std::size_t>(out.shape[0]), threads, [&](std::size_t task) {
        const auto z = static_cast<Index>(task);
        for (Index y = 0; y < out.shape[1]; ++y)
            for (Index x = 0; x < out.shape[2]; ++x) {
                std::array<double, 3> c{};
                bool inside = true;
                for (std::size_t a = 0; a < 3; ++a) {
                    c[a] = m[a][0] * static_cast<double>(z) + m[a][1] * static_cast<double>(y) +
                           m[a][2] * static_cast<double>(x) + affine.offset[a];
                    inside = inside && c[a] >= -0.5 && c[a] <= static_cast<double>(in.shape[a]) - 0.5;
                }
                out.at(z, y, x) = !inside ? fill : nearest ? detail::nearest_at(in, c) : detail::linear_at(in, c);
            }
    });
}

}  // namespace kidseg
