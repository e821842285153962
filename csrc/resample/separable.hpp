// Separable resampling of a volume onto an axis-aligned grid, each axis given by its fractional source coordinates.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/grid.hpp"
#include "base/threads.hpp"

namespace kidseg {

// The source voxels that make up one output voxel along one axis, and their weights (summing to 1).
struct Taps {
    Index first = 0;
    std::vector<float> weights;
};

// Averages over [c - width / 2, c + width / 2] of voxels that are constant over [i - 1/2, i + 1/2]; with width 1 that
// is linear interpolation. Beyond the ends the end voxels go on.
[[nodiscard]] inline std::vector<Taps> box_taps(const std::vector<double>& coordinates, Index n, double width) {
    std::vector<Taps> all;
    all.reserve(coordinates.size());
    const auto last = static_cast<double>(n - 1);
    for (const double c : coordinates) {
        const double lo = c - width / 2, hi = c + width / 2;
        const auto voxel = [&](double edge) {
            return static_cast<Index>(std::clamp(std::floor(edge + 0.5), 0.0, last));
        };
        Taps taps;
        taps.first = voxel(lo);
        const Index end = voxel(hi);
        for (Index i = taps.first; i <= end; ++i) {
            const auto middle = static_cast<double>(i);
            const double from = i == taps.first ? lo : middle - 0.5, to = i == end ? hi : middle + 0.5;
            taps.weights.push_back(static_cast<float>((to - from) / width));
        }
        while (taps.weights.size() > 1 && taps.weights.back() <= 0.0f) taps.weights.pop_back();
        all.push_back(std::move(taps));
    }
    return all;
}

using Taps3 = std::array<std::vector<Taps>, 3>;

// out (z, y, x) float32 = weighted sums of `in`; one row of `in` is held per thread.
template <class T>
void resample(const Grid<const T>& in, const Taps3& taps, float* out, int threads) {
    const std::size_t ny = taps[1].size(), nx = taps[2].size();
    for_each_task(taps[0].size(), threads, [&](std::size_t z) {
        std::vector<float> row(static_cast<std::size_t>(in.shape[2]));
        for (std::size_t y = 0; y < ny; ++y) {
            std::fill(row.begin(), row.end(), 0.0f);
            for (std::size_t i = 0; i < taps[0][z].weights.size(); ++i)
                for (std::size_t j = 0; j < taps[1][y].weights.size(); ++j) {
                    const float w = taps[0][z].weights[i] * taps[1][y].weights[j];
                    const T* v =
                        in.row(taps[0][z].first + static_cast<Index>(i), taps[1][y].first + static_cast<Index>(j));
                    if (in.stride[2] == 1)
                        for (std::size_t x = 0; x < row.size(); ++x) row[x] += w * static_cast<float>(v[x]);
                    else
                        for (std::size_t x = 0; x < row.size(); ++x)
                            row[x] += w * static_cast<float>(v[static_cast<Index>(x) * in.stride[2]]);
                }
            float* to = out + (z * ny + y) * nx;
            for (std::size_t x = 0; x < nx; ++x) {
                const float* v = row.data() + taps[2][x].first;
                float sum = 0;
                for (const float w : taps[2][x].weights) sum += w * *v++;
                to[x] = sum;
            }
        }
    });
}

}  // namespace kidseg
