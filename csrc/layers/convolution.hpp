// Direct 3x3x3 convolution with zero padding and stride 1 of (b, z, y, x, c) floats, its input and its kernel gradient.
// Outputs of a row and a block of output channels stay in registers while all taps pass by; an input row is copied once
// into channel planes with a zero at both ends. No result depends on the number of threads. 54 c_in c_out flop a voxel.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "layers/loops.hpp"

namespace kidseg::layers {

// Called with a slice of the whole batch when its outputs are there, from any thread.
using SliceDone = std::function<void(Index z)>;

// One input with its kernel (3, 3, 3, c_in, c_out).
struct Input {
    Features x;
    const float* kernel;
};

using Inputs = std::vector<Input>;

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

struct ConvolutionLoops {
    void (*spread_row)(const float* from, Index width, Index channels, float* to, Index stride);
    void (*forward_row)(const Tap*, Index n_taps, Index stride, Index width, float* y, Index c_out, int valid);
    void (*gradient_rows)(const Rows&, float* sums, Index first_channel);
};

#define KIDSEG_LOOPS "layers/convolution-inl.hpp"
#include "layers/each_instruction_set.hpp"

using ConvolutionInner = LoopsOfBlocks<ConvolutionLoops>;

[[nodiscard]] inline Index channels_of(const Inputs& inputs) {
    Index n = 0;
    for (const Input& input : inputs) n += input.x.channels;
    return n;
}

// Calls visit(z, first slice, last slice) for z in [first, last) when the slices that its outputs need are filled, of
// which the last three are kept.
template <class Fill, class Visit>
void through_slices(const Shape& s, Index first, Index last, Fill&& fill, Visit&& visit) {
    for (Index z = first; z < last; ++z) {
        const Index in_case = z % s.depth;
        const Index low = in_case == 0 ? z : z - 1, high = in_case == s.depth - 1 ? z : z + 1;
        for (Index needed = z == first ? low : in_case == 0 ? z : z + 1; needed <= high; ++needed) fill(needed);
        visit(z, low, high);
    }
}

// A kernel in the order it is read: (block, tap z, tap y, channel, tap x, lane), zero where a lane has no channel.
class PackedKernel {
public:
    PackedKernel(const Input& input, Index c_out, const std::vector<Block>& blocks, bool adjoint)
        : channels_(input.x.channels) {
        const Index c_in = channels_, c_step = adjoint ? 1 : c_out, out_step = adjoint ? c_in : 1;
        const Index tap_step = (adjoint ? -1 : 1) * c_in * c_out;
        const float* origin = input.kernel + (adjoint ? 26 * c_in * c_out : 0);
        weights_.resize(static_cast<std::size_t>(27 * c_in * (blocks.back().first + blocks.back().lanes)));
        float* w = weights_.data();
        for (const Block& block : blocks)
            for (Index zy = 0; zy < 9; ++zy)
                for (Index c = 0; c < c_in; ++c)
                    for (Index tx = 0; tx < 3; ++tx, w += block.lanes) {
                        const float* from = origin + (3 * zy + tx) * tap_step + c * c_step + block.first * out_step;
                        for (Index lane = 0; lane < block.valid; ++lane) w[lane] = from[lane * out_step];
                    }
    }

    // Weights (channel, tap x, lane) of the tap that lies dz slices and dy rows away.
    [[nodiscard]] const float* of_tap(const Block& block, Index dz, Index dy) const {
        return weights_.data() + channels_ * (27 * block.first + 3 * block.lanes * (3 * (dz + 1) + dy + 1));
    }

private:
    Index channels_;
    std::vector<float> weights_;
};

// What the tasks of one convolution share.
struct Convolution {
    const Inputs& inputs;
    std::vector<PackedKernel> kernels;
    ConvolutionInner inner;
    std::vector<Block> blocks;
    NewFeatures y;

    void slices(Index first, Index last, const SliceDone& done) const {
        const Shape& s = y.shape;
        const Index stride = (s.width + 2 + 1 + 15) / 16 * 16;
        const Index channels = channels_of(inputs), rows = s.height * channels;
        std::vector<float> scratch(static_cast<std::size_t>(3 * rows * stride));
        const Grid<float> planes{scratch.data(), {3, rows, stride}, {rows * stride, stride, 1}};
        const auto plane = [&](Index z, Index r, Index channel) { return planes.row(z % 3, r * channels + channel); };
        const auto fill = [&](Index z) {
            Index before = 0;  // channels of the inputs before
            for (const auto& [x, kernel] : inputs) {
                for (Index r = 0; r < s.height; ++r)
                    inner.of_wide.spread_row(x.row(z, r), s.width, x.channels, plane(z, r, before), stride);
                before += x.channels;
            }
        };
        std::vector<Tap> taps;
        through_slices(s, first, last, fill, [&](Index z, Index low, Index high) {
            for (const Block& block : blocks)
                for (Index r = 0; r < s.height; ++r) {
                    taps.clear();
                    Index before = 0;
                    for (std::size_t i = 0; i < inputs.size(); before += inputs[i++].x.channels)
                        for (Index in_z = low; in_z <= high; ++in_z)
                            for (Index in_r = std::max<Index>(r - 1, 0); in_r <= std::min(r + 1, s.height - 1); ++in_r)
                                taps.push_back({plane(in_z, in_r, before), kernels[i].of_tap(block, in_z - z, in_r - r),
                                                inputs[i].x.channels});
                    inner.of(block).forward_row(taps.data(), static_cast<Index>(taps.size()), stride, s.width,
                                                y.row(z, r) + block.first, y.channels, block.valid);
                }
            if (done) done(z);
        });
    }
};

}  // namespace detail

// y = the sum over the inputs of their convolutions; with `adjoint` kernels are (3, 3, 3, c_out, c_in), flipped.
inline void forward(const Inputs& inputs, const NewFeatures& y, const Machine& machine, bool adjoint = false,
                    const SliceDone& done = {}) {
    if (y.shape.voxels() * y.channels == 0) return;
    const auto inner = detail::loops_of<detail::ConvolutionInner>(machine.isa);
    detail::Convolution convolution{inputs, {}, inner, inner.blocks(y.channels), y};
    for (const Input& input : inputs) convolution.kernels.emplace_back(input, y.channels, convolution.blocks, adjoint);
    const Index n = y.shape.slices(), tasks = std::min<Index>(n, std::max<Index>(8, n / 16));
    machine.parallel(tasks, [&](Index i) { convolution.slices(i * n / tasks, (i + 1) * n / tasks, done); });
}

namespace detail {

inline void gradient_slices(const Features& x, const Features& g, const ConvolutionInner& inner, Index first,
                            Index last, float* sums) {
    const Shape& s = x.shape;
    const auto blocks = inner.blocks(g.channels);
    const Index group = std::max<Index>(1, 96 / s.width);  // rows summed in registers before they are added up
    for (Index z = first; z < last; ++z)
        for (Index dz = -1; dz <= 1; ++dz) {
            const Index in_case = z % s.depth + dz;
            if (in_case < 0 || in_case >= s.depth) continue;
            for (Index dy = -1; dy <= 1; ++dy) {
                const Index r_first = std::max<Index>(0, -dy), r_last = s.height - std::max<Index>(0, dy);
                float* tap = sums + ((dz + 1) * 3 + dy + 1) * 3 * x.channels * g.channels;
                for (Index r = r_first; r < r_last; r += group)
                    for (const Block& block : blocks)
                        inner.of(block).gradient_rows({x.row(z + dz, r + dy), g.row(z, r) + block.first,
                                                       std::min(group, r_last - r), s.width, x.channels, g.channels},
                                                      tap + block.first, 0);
            }
        }
}

}  // namespace detail

// kernel = the gradient (3, 3, 3, c_in, c_out) of sum(g * conv(x, kernel)) in its kernel.
inline void kernel_gradient(const Features& x, const Features& g, float* kernel, const Machine& machine) {
    const auto inner = detail::loops_of<detail::ConvolutionInner>(machine.isa);
    const Index c_in = x.channels, c_out = g.channels, size = 27 * c_in * c_out;
    if (c_out % 8 != 0) {  // vectors of g read whole lanes
        const Index voxels = g.shape.voxels(), wide = (c_out + 7) / 8 * 8;
        std::vector<float> padded(static_cast<std::size_t>(voxels * wide));
        std::vector<float> sums(static_cast<std::size_t>(27 * c_in * wide));
        for (Index i = 0; i < voxels; ++i) std::copy_n(g.voxel(i), c_out, padded.data() + i * wide);
        kernel_gradient(x, {padded.data(), g.shape, wide}, sums.data(), machine);
        for (Index i = 0; i < 27 * c_in; ++i) std::copy_n(sums.data() + i * wide, c_out, kernel + i * c_out);
        return;
    }
    std::fill_n(kernel, size, 0.0F);
    if (g.shape.voxels() * size == 0) return;
    const Index n = x.shape.slices(), tasks = std::min<Index>(n, c_in * c_out > 1024 ? 16 : 32);
    std::vector<float> sums(static_cast<std::size_t>(tasks * size));
    machine.parallel(tasks, [&](Index i) {
        detail::gradient_slices(x, g, inner, i * n / tasks, (i + 1) * n / tasks, sums.data() + i * size);
    });
    for (Index i = 0; i < tasks; ++i)
        for (Index k = 0; k < size; ++k) kernel[k] += sums[static_cast<std::size_t>(i * size + k)];
}

}  // namespace kidseg::layers
