// Direct 3x3x3 convolution with zero padding and stride 1 of (b, z, y, x, c) floats, its input and its kernel gradient.
// Outputs of a row and a block of output channels stay in registers while all taps pass by; an input row is copied once
// into channel planes with a zero at both ends. No result depends on the number of threads. Cost: 54 c_in c_out a voxel.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "layers/loops.hpp"

namespace kidseg::layers {

using Index = std::int64_t;

// Runs task(i) for every i in [0, n), in any order and on any threads, and returns when all are done.
using Parallel = std::function<void(Index n, const std::function<void(Index)>& task)>;

// Called with a slice of the whole batch when its outputs are there, from any thread.
using SliceDone = std::function<void(Index z)>;

struct Shape {
    Index batch, depth, height, width;
    [[nodiscard]] Index slices() const { return batch * depth; }
    [[nodiscard]] Index plane() const { return height * width; }
};

// One input with its kernel (3, 3, 3, c_in, c_out).
struct Input {
    const float* x;
    const float* kernel;
    Index channels;
};

namespace detail {

// One input row and the weights (channel, tap along x, lane) it meets.
struct Tap {
    const float* x;
    const float* w;
    Index channels;
};

// n consecutive rows of an input and of the gradient that meet through one tap along z and y.
struct Rows {
    const float* x;
    const float* g;
    Index n, width, c_in, c_out;
};

using ForwardRow = void (*)(const Tap*, Index n_taps, Index stride, Index width, float* y, Index c_out, int valid);
using SpreadRow = void (*)(const float* from, Index width, Index channels, float* to, Index stride);
using GradientRows = void (*)(const Rows&, float* sums, Index first_channel);

// The inner loops of one instruction set, for the wide and the narrow block of output channels.
struct Inner {
    int wide, narrow;
    SpreadRow spread_row;
    ForwardRow forward_wide, forward_narrow;
    GradientRows gradient_wide, gradient_narrow;
};

#define KIDSEG_LOOPS "layers/convolution-inl.hpp"
#include "layers/each_instruction_set.hpp"

// Output channels [first, first + lanes) of which `valid` exist.
struct Block {
    Index first;
    int lanes, valid;
};

[[nodiscard]] inline std::vector<Block> channel_blocks(int wide, int narrow, Index c_out) {
    std::vector<Block> blocks;
    for (Index c = 0; c < c_out;) {
        const int lanes = c_out - c > narrow ? wide : narrow;
        blocks.push_back({c, lanes, static_cast<int>(std::min<Index>(lanes, c_out - c))});
        c += lanes;
    }
    return blocks;
}

// Weights in the order they are read: (block, tap z, tap y, channel, tap x, lane), zero where a lane has no channel.
[[nodiscard]] inline std::vector<float> packed(const Input& input, Index c_out, const std::vector<Block>& blocks, bool adjoint) {
    const Index c_in = input.channels;
    const Index c_step = adjoint ? 1 : c_out, out_step = adjoint ? c_in : 1, tap_step = (adjoint ? -1 : 1) * c_in * c_out;
    const float* origin = input.kernel + (adjoint ? 26 * c_in * c_out : 0);
    std::vector<float> weights(static_cast<std::size_t>(27 * c_in * (blocks.back().first + blocks.back().lanes)));
    float* w = weights.data();
    for (const Block& block : blocks)
        for (Index zy = 0; zy < 9; ++zy)
            for (Index c = 0; c < c_in; ++c)
                for (Index tx = 0; tx < 3; ++tx, w += block.lanes) {
                    const float* from = origin + (3 * zy + tx) * tap_step + c * c_step + block.first * out_step;
                    for (Index lane = 0; lane < block.valid; ++lane) w[lane] = from[lane * out_step];
                }
    return weights;
}

inline void forward_slices(const std::vector<Input>& inputs, const std::vector<std::vector<float>>& weights, const Inner& inner,
                           const std::vector<Block>& blocks, const Shape& s, Index first, Index last, float* y, Index c_out,
                           const SliceDone& done) {
    const Index stride = (s.width + 2 + 1 + 15) / 16 * 16;
    Index channels = 0;
    for (const Input& input : inputs) channels += input.channels;
    const Index slice = s.height * channels * stride;
    std::vector<float> scratch(static_cast<std::size_t>(3 * slice));
    const auto slot = [&](Index z) { return scratch.data() + z % 3 * slice; };
    const auto fill = [&](Index z) {  // (y, channel of all inputs, x)
        Index before = 0;
        for (const Input& input : inputs) {
            for (Index r = 0; r < s.height; ++r)
                inner.spread_row(input.x + (z * s.height + r) * s.width * input.channels, s.width, input.channels,
                                 slot(z) + (r * channels + before) * stride, stride);
            before += input.channels;
        }
    };
    std::vector<Tap> taps;
    for (Index z = first; z < last; ++z) {
        const Index in_case = z % s.depth;
        const Index low = in_case == 0 ? 0 : -1, high = in_case == s.depth - 1 ? 0 : 1;
        if (z == first) {
            if (low < 0) fill(z - 1);
            fill(z);
        }
        if (in_case == 0 && z != first) fill(z);
        if (high > 0) fill(z + 1);
        std::vector<Index> offset(inputs.size(), 0);
        for (const Block& block : blocks) {
            for (Index r = 0; r < s.height; ++r) {
                taps.clear();
                Index before = 0;
                for (std::size_t i = 0; i < inputs.size(); ++i) {
                    for (Index tz = low; tz <= high; ++tz)
                        for (Index ty = r == 0 ? 0 : -1; ty <= (r == s.height - 1 ? 0 : 1); ++ty)
                            taps.push_back({slot(z + tz) + ((r + ty) * channels + before) * stride,
                                            weights[i].data() + offset[i] +
                                                (3 * (tz + 1) + ty + 1) * inputs[i].channels * 3 * block.lanes,
                                            inputs[i].channels});
                    before += inputs[i].channels;
                }
                const auto row = block.lanes == inner.wide ? inner.forward_wide : inner.forward_narrow;
                row(taps.data(), static_cast<Index>(taps.size()), stride, s.width,
                    y + (z * s.height + r) * s.width * c_out + block.first, c_out, block.valid);
            }
            for (std::size_t i = 0; i < inputs.size(); ++i) offset[i] += 27 * inputs[i].channels * block.lanes;
        }
        if (done) done(z);
    }
}

}  // namespace detail

// y = the sum over the inputs of their convolutions; with `adjoint` kernels are (3, 3, 3, c_out, c_in), flipped.
inline void forward(const std::vector<Input>& inputs, const Shape& s, float* y, Index c_out, const Parallel& parallel,
                    bool adjoint = false, Isa isa = Isa::best, const SliceDone& done = {}) {
    if (s.slices() * s.plane() * c_out == 0) return;
    const auto inner = detail::loops_of<detail::Inner>(isa);
    const auto blocks = detail::channel_blocks(inner.wide, inner.narrow, c_out);
    std::vector<std::vector<float>> weights;
    for (const Input& input : inputs) weights.push_back(detail::packed(input, c_out, blocks, adjoint));
    const Index n = s.slices(), tasks = std::min<Index>(n, std::max<Index>(8, n / 16));
    parallel(tasks, [&](Index i) {
        detail::forward_slices(inputs, weights, inner, blocks, s, i * n / tasks, (i + 1) * n / tasks, y, c_out, done);
    });
}

namespace detail {

inline void gradient_slices(const float* x, Index c_in, const float* g, Index c_out, const Shape& s, const Inner& inner,
                            const std::vector<Block>& blocks, Index first, Index last, float* sums) {
    const Index group = std::max<Index>(1, 96 / s.width);  // rows summed in registers before they are added up
    for (Index z = first; z < last; ++z)
        for (Index tz = -1; tz <= 1; ++tz) {
            const Index in_case = z % s.depth + tz;
            if (in_case < 0 || in_case >= s.depth) continue;
            for (Index ty = -1; ty <= 1; ++ty) {
                const Index r_first = std::max<Index>(0, -ty), r_last = s.height - std::max<Index>(0, ty);
                float* tap = sums + ((tz + 1) * 3 + ty + 1) * 3 * c_in * c_out;
                for (Index r = r_first; r < r_last; r += group)
                    for (const Block& block : blocks) {
                        const Rows rows{x + ((z + tz) * s.height + r + ty) * s.width * c_in,
                                        g + (z * s.height + r) * s.width * c_out + block.first,
                                        std::min(group, r_last - r),
                                        s.width,
                                        c_in,
                                        c_out};
                        (block.lanes == inner.wide ? inner.gradient_wide : inner.gradient_narrow)(rows, tap + block.first, 0);
                    }
            }
        }
}

}  // namespace detail

// kernel = the gradient (3, 3, 3, c_in, c_out) of sum(g * conv(x, kernel)) in its kernel.
inline void kernel_gradient(const float* x, Index c_in, const float* g, Index c_out, const Shape& s, float* kernel,
                            const Parallel& parallel, Isa isa = Isa::best) {
    const auto inner = detail::loops_of<detail::Inner>(isa);
    const Index size = 27 * c_in * c_out;
    if (c_out % 8 != 0) {  // vectors of g read whole lanes
        const Index voxels = s.slices() * s.plane(), wide = (c_out + 7) / 8 * 8;
        std::vector<float> padded(static_cast<std::size_t>(voxels * wide)), sums(static_cast<std::size_t>(27 * c_in * wide));
        for (Index i = 0; i < voxels; ++i) std::copy_n(g + i * c_out, c_out, padded.data() + i * wide);
        kernel_gradient(x, c_in, padded.data(), wide, s, sums.data(), parallel, isa);
        for (Index i = 0; i < 27 * c_in; ++i) std::copy_n(sums.data() + i * wide, c_out, kernel + i * c_out);
        return;
    }
    std::fill_n(kernel, size, 0.0F);
    if (s.slices() * s.plane() * size == 0) return;
    const auto blocks = detail::channel_blocks(inner.wide, inner.narrow, c_out);
    const Index n = s.slices(), tasks = std::min<Index>(n, c_in * c_out > 1024 ? 16 : 32);
    std::vector<float> sums(static_cast<std::size_t>(tasks * size));
    parallel(tasks, [&](Index i) {
        detail::gradient_slices(x, c_in, g, c_out, s, inner, blocks, i * n / tasks, (i + 1) * n / tasks, sums.data() + i * size);
    });
    for (Index i = 0; i < tasks; ++i)
        for (Index k = 0; k < size; ++k) kernel[k] += sums[static_cast<std::size_t>(i * size + k)];
}

}  // namespace kidseg::layers
