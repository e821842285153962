// Strided (z, y, x) views, boxes, and the order in which memory wants to be read.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

namespace kidseg {

using Index = std::int64_t;
using Index3 = std::array<Index, 3>;
using Spacing = std::array<double, 3>;

// A view of somebody else's array; strides count elements and may be negative or zero.
template <class T>
struct Grid {
    T* data = nullptr;
    Index3 shape{};
    Index3 stride{};

    [[nodiscard]] T* row(Index z, Index y) const { return data + z * stride[0] + y * stride[1]; }
    [[nodiscard]] T& at(Index z, Index y, Index x) const { return row(z, y)[x * stride[2]]; }
    [[nodiscard]] Index rows() const { return shape[0] * shape[1]; }
    [[nodiscard]] bool empty() const { return shape[0] == 0 || shape[1] == 0 || shape[2] == 0; }
};

// Reads the rows of a grid, gathering a row only where its voxels do not lie side by side.
template <class T>
class RowReader {
public:
    explicit RowReader(const Grid<const T>& grid) : grid_(grid) {
        if (grid.shape[2] > 1 && grid.stride[2] != 1) buffer_.resize(static_cast<std::size_t>(grid.shape[2]));
    }
    [[nodiscard]] const T* operator()(Index z, Index y) {
        const T* row = grid_.row(z, y);
        if (buffer_.empty()) return row;
        for (std::size_t x = 0; x < buffer_.size(); ++x) buffer_[x] = row[static_cast<Index>(x) * grid_.stride[2]];
        return buffer_.data();
    }

private:
    Grid<const T> grid_;
    std::vector<T> buffer_;
};

// Half open, (z, y, x); may reach outside a grid.
struct Box {
    Index3 lo{};
    Index3 hi{};

    [[nodiscard]] Index3 shape() const { return {hi[0] - lo[0], hi[1] - lo[1], hi[2] - lo[2]}; }
};

// Axis i of the reordered grid is axis source[i] of the caller's, reversed where flipped[i].
struct Axes {
    std::array<std::size_t, 3> source{0, 1, 2};
    std::array<bool, 3> flipped{false, false, false};

    [[nodiscard]] bool as_given() const {
        return source == std::array<std::size_t, 3>{0, 1, 2} && !flipped[0] && !flipped[1] && !flipped[2];
    }
};

// Axes from the widest stride to the narrowest, none negative; axes of length 1 and stride 0 come first.
[[nodiscard]] inline Axes memory_order(const Index3& shape, const Index3& stride) {
    Axes axes;
    const auto width = [&](std::size_t a) {
        return shape[a] <= 1 || stride[a] == 0 ? std::numeric_limits<Index>::max() : std::abs(stride[a]);
    };
    std::stable_sort(axes.source.begin(), axes.source.end(),
                     [&](std::size_t a, std::size_t b) { return width(a) > width(b); });
    for (std::size_t i = 0; i < 3; ++i) {
        const std::size_t a = axes.source[i];
        axes.flipped[i] = shape[a] > 1 && stride[a] < 0;
    }
    return axes;
}

template <class T>
[[nodiscard]] Grid<T> reordered(const Grid<T>& grid, const Axes& axes) {
    Grid<T> out{grid.data, {}, {}};
    for (std::size_t i = 0; i < 3; ++i) {
        const std::size_t a = axes.source[i];
        out.shape[i] = grid.shape[a];
        out.stride[i] = grid.stride[a];
        if (axes.flipped[i]) {
            out.data += (grid.shape[a] - 1) * grid.stride[a];
            out.stride[i] = -grid.stride[a];
        }
    }
    return out;
}

// A box in the reordered grid, back on the caller's axes.
[[nodiscard]] inline Box given_order(const Box& box, const Index3& reordered_shape, const Axes& axes) {
    Box out;
    for (std::size_t i = 0; i < 3; ++i) {
        const std::size_t a = axes.source[i];
        const Index n = reordered_shape[i];
        out.lo[a] = axes.flipped[i] ? n - box.hi[i] : box.lo[i];
        out.hi[a] = axes.flipped[i] ? n - box.lo[i] : box.hi[i];
    }
    return out;
}

// values[begin, end) of a row at any stride set to `value`.
template <class T>
void fill_run(T* row, Index stride, Index begin, Index end, T value) {
    if (stride == 1) {
        std::fill(row + begin, row + end, value);
    } else if (stride == -1) {
        std::fill(row - (end - 1), row - begin + 1, value);
    } else {
        for (Index x = begin; x < end; ++x) row[x * stride] = value;
    }
}

}  // namespace kidseg
