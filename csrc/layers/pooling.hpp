// Blocks of n^3 voxels for one: their largest value; one voxel for a block: repeated; and the gradients of both.
#pragma once

#include "layers/loops.hpp"

namespace kidseg::layers {

namespace detail {

// Blocks along one row: steps in floats between slices and rows of their voxels.
struct PoolRow {
    Index n, width, channels, z_step, y_step;
};

struct PoolingInner {
    void (*pool_row)(const PoolRow&, const float* x, float* y);
    void (*pool_gradient_row)(const PoolRow&, const float* x, const float* y, const float* g, float* dx, float* left);
    void (*repeat_row)(const float* x, Index width, Index channels, Index n, float* y);
    void (*add_repeats)(const float* g, Index width, Index channels, Index n, float* dx);
};

#define KIDSEG_LOOPS "layers/pooling-inl.hpp"
#include "layers/each_instruction_set.hpp"

[[nodiscard]] inline PoolRow pool_row_of(const Features& y, Index n) {
    const Index row = y.shape.width * n * y.channels;
    return {n, y.shape.width, y.channels, y.shape.height * n * row, row};
}

}  // namespace detail

// y = the largest value of each n^3 block of x.
inline void max_pool(const Features& x, Index n, const NewFeatures& y, const Machine& machine) {
    const auto inner = detail::loops_of<detail::PoolingInner>(machine.isa);
    const auto blocks = detail::pool_row_of({y.data, y.shape, y.channels}, n);
    machine.parallel(y.shape.slices(), [&](Index z) {
        for (Index r = 0; r < y.shape.height; ++r) inner.pool_row(blocks, x.row(z * n, r * n), y.row(z, r));
    });
}

// Gradient of sum(g * y) in x.
inline void max_pool_gradient(const Features& x, Index n, const Features& y, const Features& g, const NewFeatures& dx,
                              const Machine& machine) {
    const auto inner = detail::loops_of<detail::PoolingInner>(machine.isa);
    const auto blocks = detail::pool_row_of(y, n);
    machine.parallel(y.shape.slices(), [&](Index z) {
        std::vector<float> left(static_cast<std::size_t>(y.channels));
        for (Index r = 0; r < y.shape.height; ++r)
            inner.pool_gradient_row(blocks, x.row(z * n, r * n), y.row(z, r), g.row(z, r), dx.row(z * n, r * n),
                                    left.data());
    });
}

// y: every voxel of x as a block of n^3.
inline void upsample(const Features& x, Index n, const NewFeatures& y, const Machine& machine) {
    const auto inner = detail::loops_of<detail::PoolingInner>(machine.isa);
    const Index row = y.shape.width * y.channels, slice = y.shape.height * row;
    machine.parallel(x.shape.slices(), [&](Index z) {
        for (Index r = 0; r < x.shape.height; ++r) {
            float* to = y.row(z * n, r * n);
            inner.repeat_row(x.row(z, r), x.shape.width, x.channels, n, to);
            for (Index k = 1; k < n; ++k) std::copy_n(to, row, to + k * row);
        }
        float* first = y.slice(z * n);
        for (Index k = 1; k < n; ++k) std::copy_n(first, slice, first + k * slice);
    });
}

// Gradient of sum(g * y) in x.
inline void upsample_gradient(const Features& g, Index n, const NewFeatures& dx, const Machine& machine) {
    const auto inner = detail::loops_of<detail::PoolingInner>(machine.isa);
    machine.parallel(dx.shape.slices(), [&](Index z) {
        for (Index r = 0; r < dx.shape.height; ++r) {
            std::fill_n(dx.row(z, r), dx.shape.width * dx.channels, 0.0F);
            for (Index k = 0; k < n * n; ++k)
                inner.add_repeats(g.row(z * n + k / n, r * n + k % n), dx.shape.width, dx.channels, n, dx.row(z, r));
        }
    });
}

}  // namespace kidseg::layers
