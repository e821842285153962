// Boxes: the tight one around the foreground, and copies in and out of a volume where a box may reach outside.
#pragma once

#include <algorithm>
#include <optional>

#include "base/grid.hpp"
#include "base/instruction_sets.hpp"
#include "base/voxel_words.hpp"

namespace kidseg {

namespace detail {

// Index of the first voxel of [begin, end) that is not zero, or end.
template <class T>
[[nodiscard]] inline Index first_set(const T* v, Index begin, Index end) {
    for (; begin + 64 <= end && all_equal(v + begin, T{}); begin += 64) {
    }
    while (begin < end && v[begin] == T{}) ++begin;
    return begin;
}

// One past the last voxel of [begin, end) that is not zero, or begin.
template <class T>
[[nodiscard]] inline Index last_set(const T* v, Index begin, Index end) {
    for (; end - 64 >= begin && all_equal(v + end - 64, T{}); end -= 64) {
    }
    while (end > begin && v[end - 1] == T{}) --end;
    return end;
}

// Tight box around the voxels that are not zero. Reads from the outside inwards and never what the box already holds.
template <class T>
[[nodiscard]] inline std::optional<Box> foreground_box_in_memory_order(const Grid<const T>& grid) {
    const Index3 n = grid.shape;
    RowReader<T> row(grid);
    const bool planes = grid.stride[2] == 1 && grid.stride[1] == n[2];
    const auto rows_empty = [&](Index z, Index begin, Index end) {
        if (begin >= end) return true;
        if (planes) return all_zero(grid.row(z, begin), (end - begin) * n[2]);
        while (begin < end && all_zero(row(z, begin), n[2])) ++begin;
        return begin == end;
    };
    Box box{{0, n[1], n[2]}, {n[0], 0, 0}};
    while (box.lo[0] < n[0] && rows_empty(box.lo[0], 0, n[1])) ++box.lo[0];
    if (box.lo[0] == n[0]) return std::nullopt;
    while (rows_empty(box.hi[0] - 1, 0, n[1])) --box.hi[0];
    for (Index z = box.lo[0]; z < box.hi[0]; ++z) {
        if (!rows_empty(z, 0, box.lo[1])) {
            box.lo[1] = 0;
            while (all_zero(row(z, box.lo[1]), n[2])) ++box.lo[1];
        }
        box.hi[1] = std::max(box.hi[1], box.lo[1]);
        if (!rows_empty(z, box.hi[1], n[1])) {
            box.hi[1] = n[1];
            while (all_zero(row(z, box.hi[1] - 1), n[2])) --box.hi[1];
        }
    }
    for (Index z = box.lo[0]; z < box.hi[0]; ++z)
        for (Index y = box.lo[1]; y < box.hi[1]; ++y) {
            const T* v = row(z, y);
            box.lo[2] = detail::first_set(v, 0, box.lo[2]);
            box.hi[2] = detail::last_set(v, box.hi[2], n[2]);
        }
    return box;
}

template <class T>
KIDSEG_AVX2 std::optional<Box> foreground_box_avx2(const Grid<const T>& grid) {
    return foreground_box_in_memory_order(grid);
}

}  // namespace detail

template <class T>
[[nodiscard]] std::optional<Box> foreground_box(const Grid<const T>& given) {
    const Axes axes = memory_order(given.shape, given.stride);
    const Grid<const T> grid = reordered(given, axes);
    if (grid.empty()) return std::nullopt;
    const auto box = usable(Isa::avx2) == Isa::avx2 ? detail::foreground_box_avx2(grid)
                                                    : detail::foreground_box_in_memory_order(grid);
    if (!box) return std::nullopt;
    return given_order(*box, grid.shape, axes);
}

// roi = the voxels of `volume` inside `box`, `fill` where the box reaches outside. roi.shape is the box's.
template <class T>
void crop(const Grid<const T>& volume, const Box& box, const Grid<T>& roi, T fill) {
    const Index3 n = roi.shape;
    const Index from = std::clamp<Index>(-box.lo[2], 0, n[2]);
    const Index to = std::clamp<Index>(volume.shape[2] - box.lo[2], from, n[2]);
    for (Index z = 0; z < n[0]; ++z)
        for (Index y = 0; y < n[1]; ++y) {
            T* out = roi.row(z, y);
            const Index vz = z + box.lo[0], vy = y + box.lo[1];
            const bool inside = vz >= 0 && vz < volume.shape[0] && vy >= 0 && vy < volume.shape[1] && to > from;
            if (!inside) {
                fill_run(out, roi.stride[2], 0, n[2], fill);
                continue;
            }
            fill_run(out, roi.stride[2], 0, from, fill);
            const T* in = volume.row(vz, vy);
            if (volume.stride[2] == 1 && roi.stride[2] == 1)
                std::copy(in + box.lo[2] + from, in + box.lo[2] + to, out + from);
            else
                for (Index x = from; x < to; ++x) out[x * roi.stride[2]] = in[(x + box.lo[2]) * volume.stride[2]];
            fill_run(out, roi.stride[2], to, n[2], fill);
        }
}

// The voxels of `volume` inside `box` = those of `roi`; what reaches outside is dropped.
template <class T>
void paste(const Grid<T>& volume, const Box& box, const Grid<const T>& roi) {
    Index3 from{}, to{};
    for (std::size_t a = 0; a < 3; ++a) {
        from[a] = std::clamp<Index>(-box.lo[a], 0, roi.shape[a]);
        to[a] = std::clamp<Index>(volume.shape[a] - box.lo[a], from[a], roi.shape[a]);
    }
    for (Index z = from[0]; z < to[0]; ++z)
        for (Index y = from[1]; y < to[1]; ++y) {
            T* out = volume.row(z + box.lo[0], y + box.lo[1]);
            const T* in = roi.row(z, y);
            if (volume.stride[2] == 1 && roi.stride[2] == 1)
                std::copy(in + from[2], in + to[2], out + box.lo[2] + from[2]);
            else
                for (Index x = from[2]; x < to[2]; ++x) out[(x + box.lo[2]) * volume.stride[2]] = in[x * roi.stride[2]];
        }
}

}  // namespace kidseg
