// A linear map of the channels of each voxel and its gradient; voxels repeated in blocks and the sum over blocks. Sums are
// taken in parts of fixed size and order: no result depends on the number of threads.
#pragma once

#include "layers/convolution.hpp"

namespace kidseg::layers {

namespace detail {

// stride: floats from one channel to the next in the sums of a gradient.
struct Linear {
    Index c_in, c_out, stride;
};

using LinearForward = void (*)(const float* x, Index n, const Linear&, const float* w, const float* bias, float* y, int valid);
using LinearGradient = void (*)(const float* x, const float* g, Index n, const Linear&, Index first_channel, float* sums);

struct LinearInner {
    int wide, narrow;
    LinearForward forward_wide, forward_narrow;
    LinearGradient gradient_wide, gradient_narrow;
    void (*repeat_row)(const float*, Index width, Index channels, Index n, float*);
    void (*add_repeats)(const float*, Index width, Index channels, Index n, float*);
};

#define KIDSEG_LOOPS "layers/pointwise-inl.hpp"
#include "layers/each_instruction_set.hpp"

constexpr Index linear_part = 2048;  // voxels of one task

}  // namespace detail

// y (n, c_out) = x (n, c_in) times w (c_in, c_out), plus bias (c_out) unless it is null.
inline void linear(const float* x, Index n, Index c_in, const float* w, const float* bias, Index c_out, float* y,
                   const Parallel& parallel, Isa isa = Isa::best) {
    const auto inner = detail::loops_of<detail::LinearInner>(isa);
    const auto blocks = detail::channel_blocks(inner.wide, inner.narrow, c_out);
    std::vector<float> packed;
    for (const auto& block : blocks)
        for (Index c = -1; c < c_in; ++c)  // the bias stands before the weights
            for (Index lane = 0; lane < block.lanes; ++lane) {
                const float* row = c < 0 ? bias : w + c * c_out;
                packed.push_back(row != nullptr && lane < block.valid ? row[block.first + lane] : 0.0F);
            }
    parallel((n + detail::linear_part - 1) / detail::linear_part, [&](Index i) {
        const Index first = i * detail::linear_part, count = std::min(detail::linear_part, n - first);
        const float* weights = packed.data();
        for (const auto& block : blocks) {
            const auto run = block.lanes == inner.wide ? inner.forward_wide : inner.forward_narrow;
            run(x + first * c_in, count, {c_in, c_out, c_out}, weights + block.lanes, weights, y + first * c_out + block.first,
                block.valid);
            weights += (c_in + 1) * block.lanes;
        }
    });
}

// dw (c_in, c_out) and db (c_out): gradients of sum(g * y) in w and the bias.
inline void linear_gradient(const float* x, Index n, Index c_in, const float* g, Index c_out, float* dw, float* db,
                            const Parallel& parallel, Isa isa = Isa::best) {
    const auto inner = detail::loops_of<detail::LinearInner>(isa);
    const auto blocks = detail::channel_blocks(inner.wide, inner.narrow, c_out);
    const Index stride = blocks.empty() ? 0 : blocks.back().first + blocks.back().lanes, size = (c_in + 1) * stride;
    const Index parts = (n + detail::linear_part - 1) / detail::linear_part;
    std::vector<float> sums(static_cast<std::size_t>(parts * size));
    const std::vector<float> ones(static_cast<std::size_t>(detail::linear_part), 1.0F);
    parallel(parts, [&](Index i) {
        const Index first = i * detail::linear_part, count = std::min(detail::linear_part, n - first);
        float* sum = sums.data() + i * size;
        const auto add = [&](const float* from_x, const float* from_g, Index voxels, const detail::Block& block) {
            const auto run = block.lanes == inner.wide ? inner.gradient_wide : inner.gradient_narrow;
            run(from_x, from_g, voxels, {c_in, c_out, stride}, 0, sum + block.first);
            run(ones.data(), from_g, voxels, {1, c_out, stride}, 0, sum + c_in * stride + block.first);
        };
        const Index spare = (stride - 1) / c_out;  // the last voxels' vectors would reach beyond g
        const Index whole = std::min(count, std::max<Index>(0, n - spare - first));
        std::vector<float> tail(static_cast<std::size_t>((count - whole) * c_out + stride));
        std::copy_n(g + (first + whole) * c_out, (count - whole) * c_out, tail.data());
        for (const auto& block : blocks) {
            add(x + first * c_in, g + first * c_out + block.first, whole, block);
            add(x + (first + whole) * c_in, tail.data() + block.first, count - whole, block);
        }
    });
    for (Index c = 0; c <= c_in; ++c)
        for (Index k = 0; k < c_out; ++k) {
            double sum = 0;
            for (Index i = 0; i < parts; ++i) sum += double{sums[static_cast<std::size_t>(i * size + c * stride + k)]};
            (c < c_in ? dw[c * c_out + k] : db[k]) = static_cast<float>(sum);
        }
}

// y: every voxel of x as a block of n^3; s is the shape of x.
inline void upsample(const Shape& s, Index c, Index n, const float* x, float* y, const Parallel& parallel, Isa isa = Isa::best) {
    const auto inner = detail::loops_of<detail::LinearInner>(isa);
    const Index row = s.width * n * c, slice = s.height * n * row;
    parallel(s.slices(), [&](Index z) {
        float* first = y + z * n * slice;
        for (Index r = 0; r < s.height; ++r) {
            float* to = first + r * n * row;
            inner.repeat_row(x + (z * s.height + r) * s.width * c, s.width, c, n, to);
            for (Index k = 1; k < n; ++k) std::copy_n(to, row, to + k * row);
        }
        for (Index k = 1; k < n; ++k) std::copy_n(first, slice, first + k * slice);
    });
}

// Gradient of sum(g * y) in x.
inline void upsample_gradient(const Shape& s, Index c, Index n, const float* g, float* dx, const Parallel& parallel,
                              Isa isa = Isa::best) {
    const auto inner = detail::loops_of<detail::LinearInner>(isa);
    const Index row = s.width * n * c, slice = s.height * n * row;
    parallel(s.slices(), [&](Index z) {
        for (Index r = 0; r < s.height; ++r) {
            float* to = dx + (z * s.height + r) * s.width * c;
            std::fill_n(to, s.width * c, 0.0F);
            for (Index k = 0; k < n * n; ++k)
                inner.add_repeats(g + (z * n + k / n) * slice + (r * n + k % n) * row, s.width, c, n, to);
        }
    });
}

}  // namespace kidseg::layers
