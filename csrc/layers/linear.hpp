// A linear map of the channels of each voxel and its gradient. Sums are taken in parts of fixed size and order: no
// result depends on the number of threads.
#pragma once

#include "layers/convolution.hpp"

namespace kidseg::layers {

namespace detail {

// stride: floats from one channel to the next in the sums of a gradient.
struct LinearSizes {
    Index c_in, c_out, stride;
};

struct LinearLoops {
    void (*forward)(const float* x, Index n, const LinearSizes&, const float* w, const float* bias, float* y,
                    int valid);
    void (*gradient)(const float* x, const float* g, Index n, const LinearSizes&, Index first_channel, float* sums);
};

#define KIDSEG_LOOPS "layers/linear-inl.hpp"
#include "layers/each_instruction_set.hpp"

constexpr Index linear_part = 2048;  // voxels of one task

}  // namespace detail

// y = each voxel of x times w (c_in, c_out), plus bias (c_out) unless it is null.
inline void linear(const Features& x, const float* w, const float* bias, const NewFeatures& y, const Machine& machine) {
    const auto inner = detail::loops_of<detail::LoopsOfBlocks<detail::LinearLoops>>(machine.isa);
    const Index n = x.shape.voxels(), c_in = x.channels, c_out = y.channels;
    const auto blocks = inner.blocks(c_out);
    std::vector<float> packed;
    for (const auto& block : blocks)
        for (Index c = -1; c < c_in; ++c)  // the bias stands before the weights
            for (Index lane = 0; lane < block.lanes; ++lane) {
                const float* row = c < 0 ? bias : w + c * c_out;
                packed.push_back(row != nullptr && lane < block.valid ? row[block.first + lane] : 0.0F);
            }
    machine.parallel((n + detail::linear_part - 1) / detail::linear_part, [&](Index i) {
        const Index first = i * detail::linear_part, count = std::min(detail::linear_part, n - first);
        const float* weights = packed.data();
        for (const auto& block : blocks) {
            inner.of(block).forward(x.voxel(first), count, {c_in, c_out, c_out}, weights + block.lanes, weights,
                                    y.voxel(first) + block.first, block.valid);
            weights += (c_in + 1) * block.lanes;
        }
    });
}

// dw (c_in, c_out) and db (c_out): gradients of sum(g * y) in w and the bias.
inline void linear_gradient(const Features& x, const Features& g, float* dw, float* db, const Machine& machine) {
    const auto inner = detail::loops_of<detail::LoopsOfBlocks<detail::LinearLoops>>(machine.isa);
    const Index n = x.shape.voxels(), c_in = x.channels, c_out = g.channels;
    const auto blocks = inner.blocks(c_out);
    const Index stride = blocks.empty() ? 0 : blocks.back().first + blocks.back().lanes, size = (c_in + 1) * stride;
    const Index parts = (n + detail::linear_part - 1) / detail::linear_part;
    std::vector<float> sums(static_cast<std::size_t>(parts * size));
    const std::vector<float> ones(static_cast<std::size_t>(detail::linear_part), 1.0F);
    machine.parallel(parts, [&](Index i) {
        const Index first = i * detail::linear_part, count = std::min(detail::linear_part, n - first);
        float* sum = sums.data() + i * size;
        const auto add = [&](const float* from_x, const float* from_g, Index voxels, const detail::Block& block) {
            const auto gradient = inner.of(block).gradient;
            gradient(from_x, from_g, voxels, {c_in, c_out, stride}, 0, sum + block.first);
            gradient(ones.data(), from_g, voxels, {1, c_out, stride}, 0, sum + c_in * stride + block.first);
        };
        const Index spare = (stride - 1) / c_out;  // the last voxels' vectors would reach beyond g
        const Index whole = std::min(count, std::max<Index>(0, n - spare - first));
        std::vector<float> tail(static_cast<std::size_t>((count - whole) * c_out + stride));
        std::copy_n(g.voxel(first + whole), (count - whole) * c_out, tail.data());
        for (const auto& block : blocks) {
            add(x.voxel(first), g.voxel(first) + block.first, whole, block);
            add(x.voxel(first + whole), tail.data() + block.first, count - whole, block);
        }
    });
    for (Index c = 0; c <= c_in; ++c)
        for (Index k = 0; k < c_out; ++k) {
            double sum = 0;
            for (Index i = 0; i < parts; ++i) sum += double{sums[static_cast<std::size_t>(i * size + c * stride + k)]};
            (c < c_in ? dw[c * c_out + k] : db[k]) = static_cast<float>(sum);
        }
}

}  // namespace kidseg::layers
