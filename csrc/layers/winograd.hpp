// 3x3x3 convolution with 2.25 times fewer multiplications: a 3x3 kernel makes 2x2 pixels of 4x4 from products at 16
// points, summed over channels and the three slices before the result is taken back. Exact up to rounding.
// Winograd's F(2x2, 3x3): Lavin, Gray 2016, "Fast Algorithms for Convolutional Neural Networks", CVPR.
#pragma once

#include "layers/convolution.hpp"

namespace kidseg::layers {

namespace detail {

constexpr Index points = 16;
constexpr Index tiles_at_once = 96;  // their sums at all points stay in the cache until they are pixels

// Floats from one point to the next, and from one tile.
struct Places {
    Index point, tile;
};

// Nine taps of one kernel slice: floats between taps, input channels and output channels.
struct KernelTaps {
    const float* data;
    Index tap, channel, lane;
};

// Up to three slices (tile, channel) of one point, each with its weights (channel, lane).
struct Products {
    const float* v[3];
    const float* w[3];
    Index n, channels;
};

// Up to three slices (tile, channel) of one point, and those of a gradient that all meet.
struct Outer {
    const float* v[3];
    Index n;
    const float* g;
    Index tiles, c_in, c_out;
};

struct WinogradLoops {
    void (*input_tiles)(const float* const* rows, Index width, Index channels, float* to, const Places&);
    void (*gradient_tiles)(const float* const* rows, Index width, Index channels, float* to, const Places&);
    void (*kernel_weights)(const KernelTaps&, Index channels, float* to, Index point);
    void (*products)(const Products&, Index first, Index last, float* m);
    void (*output_pixels)(const float* m, Index point, Index first, Index last, const Shape&, float* y, Index c_out);
    void (*outer)(const Outer&, float* sums);
    void (*kernel_taps)(const float* u, Index point, float* to, Index tap);
};

#define KIDSEG_LOOPS "layers/winograd-inl.hpp"
#include "layers/each_instruction_set.hpp"

using WinogradInner = LoopsOfBlocks<WinogradLoops>;

// The loops for feature maps that are read whole.
[[nodiscard]] inline const WinogradLoops& loops_for(const WinogradInner& inner, Index channels) {
    return channels % inner.wide == 0 ? inner.of_wide : inner.of_narrow;
}

// The last three slices of one task's inputs as tiles (point, tile, channel of all inputs).
class TileRing {
public:
    TileRing(const Shape& s, Index channels, const WinogradInner& inner)
        : s_(s), places_{tiles(s) * channels, channels}, inner_(inner) {
        for (auto& slot : slots_) slot.resize(static_cast<std::size_t>(points * places_.point + 2 * channels));
    }

    [[nodiscard]] static Index tiles(const Shape& s) { return (s.height + 1) / 2 * ((s.width + 1) / 2); }
    [[nodiscard]] const float* point(Index z, Index p) const {
        return slots_[static_cast<std::size_t>(z % 3)].data() + p * places_.point;
    }

    // Rows one above to two below each pair of pixels; nothing is outside of the slice.
    void fill(Index z, const Inputs& inputs) {
        Index before = 0;
        for (const auto& [x, kernel] : inputs) {
            zeros_.resize(static_cast<std::size_t>(s_.width * x.channels));
            for (Index y = 0; y < s_.height; y += 2) {
                const float* rows[4];
                for (Index r = 0; r < 4; ++r) rows[r] = row(x, z, y + r - 1);
                loops_for(inner_, x.channels).input_tiles(rows, s_.width, x.channels, tile_row(z, y) + before, places_);
            }
            before += x.channels;
        }
    }

    // Each pair of pixels of a gradient.
    void fill_gradient(Index z, const Features& g) {
        zeros_.resize(static_cast<std::size_t>(s_.width * g.channels));
        for (Index y = 0; y < s_.height; y += 2) {
            const float* rows[2] = {row(g, z, y), row(g, z, y + 1)};
            loops_for(inner_, g.channels).gradient_tiles(rows, s_.width, g.channels, tile_row(z, y), places_);
        }
    }

private:
    [[nodiscard]] const float* row(const Features& x, Index z, Index y) const {
        return y < 0 || y >= s_.height ? zeros_.data() : x.row(z, y);
    }
    [[nodiscard]] float* tile_row(Index z, Index y) {
        return slots_[static_cast<std::size_t>(z % 3)].data() + y / 2 * ((s_.width + 1) / 2) * places_.tile;
    }

    Shape s_;
    Places places_;
    const WinogradInner& inner_;
    std::vector<float> zeros_;
    std::array<std::vector<float>, 3> slots_;
};

// Tasks of one loop over n slices; each takes two slices more than its own.
[[nodiscard]] inline Index slice_tasks(Index n) {
    return std::min(n, std::max(n / 16, std::clamp<Index>(n / 4, 4, 8)));
}

// Weights of one block (point, tap z, channel of all inputs, lane).
inline void pack_points(const Inputs& inputs, Index channels, Index c_out, const Block& block, bool adjoint,
                        const WinogradInner& inner, float* to) {
    for (Index tz = 0; tz < 3; ++tz)
        for (const auto& [x, kernel] : inputs) {
            const Index size = x.channels * c_out, tap = adjoint ? 26 - 9 * tz : 9 * tz;
            const KernelTaps taps{kernel + tap * size + block.first * (adjoint ? x.channels : 1),
                                  adjoint ? -size : size, adjoint ? 1 : c_out, adjoint ? x.channels : 1};
            inner.of(block).kernel_weights(taps, x.channels, to, 3 * channels * block.lanes);
            to += x.channels * block.lanes;
        }
}

}  // namespace detail

// Whether channels fill whole vectors, are enough to outweigh the change to points and back, and few pixels of the
// tiles lie outside.
[[nodiscard]] inline bool suits_winograd(const Inputs& inputs, Index c_out) {
    const Shape& s = inputs[0].x.shape;
    const bool whole = std::all_of(inputs.begin(), inputs.end(), [](const Input& i) { return i.x.channels % 8 == 0; });
    return whole && c_out % 8 == 0 && detail::channels_of(inputs) * c_out >= 256 &&
           2 * s.plane() >= 5 * detail::TileRing::tiles(s);
}

// As `forward`.
inline void winograd_forward(const Inputs& inputs, const NewFeatures& y, const Machine& machine, bool adjoint,
                             const SliceDone& done) {
    using namespace detail;
    const auto inner = loops_of<WinogradInner>(machine.isa);
    const Shape& s = y.shape;
    const auto blocks = inner.blocks(y.channels);
    const Index channels = channels_of(inputs);
    std::vector<float> weights(static_cast<std::size_t>(3 * points * channels * y.channels));
    const auto weights_of = [&](const Block& block) { return weights.data() + 3 * points * channels * block.first; };
    for (const Block& block : blocks)
        pack_points(inputs, channels, y.channels, block, adjoint, inner, weights_of(block));
    const Index n = s.slices(), tasks = slice_tasks(n), tiles = TileRing::tiles(s);
    machine.parallel(tasks, [&](Index task) {
        TileRing ring(s, channels, inner);
        std::vector<float> sums(static_cast<std::size_t>(points * tiles_at_once * inner.wide));
        const auto fill = [&](Index z) { ring.fill(z, inputs); };
        through_slices(s, task * n / tasks, (task + 1) * n / tasks, fill, [&](Index z, Index low, Index high) {
            for (Index tile = 0; tile < tiles; tile += tiles_at_once) {
                const Index end = std::min(tiles, tile + tiles_at_once);
                for (const Block& block : blocks) {
                    const Index per_slice = channels * block.lanes, per_point = tiles_at_once * block.lanes;
                    for (Index p = 0; p < points; ++p) {
                        Products products{{}, {}, 0, channels};
                        for (Index of = low; of <= high; ++of, ++products.n) {
                            products.v[products.n] = ring.point(of, p);
                            products.w[products.n] = weights_of(block) + (3 * p + of - z + 1) * per_slice;
                        }
                        inner.of(block).products(products, tile, end, sums.data() + p * per_point);
                    }
                    inner.of(block).output_pixels(sums.data(), per_point, tile, end, s, y.slice(z) + block.first,
                                                  y.channels);
                }
            }
            if (done) done(z);
        });
    });
}

// As `kernel_gradient`.
inline void winograd_kernel_gradient(const Features& x, const Features& g, float* kernel, const Machine& machine) {
    using namespace detail;
    const auto inner = loops_of<WinogradInner>(machine.isa);
    const Shape& s = x.shape;
    const Index c_in = x.channels, c_out = g.channels;
    const auto blocks = inner.blocks(c_out);
    const Index n = s.slices(), size = 3 * c_in * c_out, tasks = slice_tasks(n);
    std::vector<float> sums(static_cast<std::size_t>(tasks * points * size));
    machine.parallel(tasks, [&](Index task) {
        TileRing of_x(s, c_in, inner), of_g(s, c_out, inner);
        float* to = sums.data() + task * points * size;
        const auto fill = [&](Index z) { of_x.fill(z, {{x, nullptr}}); };
        through_slices(s, task * n / tasks, (task + 1) * n / tasks, fill, [&](Index z, Index low, Index high) {
            of_g.fill_gradient(z, g);
            for (Index p = 0; p < points; ++p)
                for (const Block& block : blocks) {
                    Outer outer{{}, 0, of_g.point(z, p) + block.first, TileRing::tiles(s), c_in, c_out};
                    for (Index of = low; of <= high; ++of) outer.v[outer.n++] = of_x.point(of, p);
                    inner.of(block).outer(outer, to + p * size + (low - z + 1) * c_in * c_out + block.first);
                }
        });
    });
    machine.parallel(3 * c_in, [&](Index row) {  // of (tap z, input channel)
        for (Index task = 1; task < tasks; ++task)
            for (Index p = 0; p < points; ++p) {
                float* to = sums.data() + p * size + row * c_out;
                const float* from = to + task * points * size;
                for (Index c = 0; c < c_out; ++c) to[c] += from[c];
            }
        for (const Block& block : blocks)
            inner.of(block).kernel_taps(sums.data() + row * c_out + block.first, size,
                                        kernel + (row / c_in * 9 * c_in + row % c_in) * c_out + block.first,
                                        c_in * c_out);
    });
}

// `forward` or the same by fewer multiplications, whichever is faster.
inline void convolve(const Inputs& inputs, const NewFeatures& y, const Machine& machine, bool adjoint = false,
                     const SliceDone& done = {}) {
    if (suits_winograd(inputs, y.channels)) winograd_forward(inputs, y, machine, adjoint, done);
    else forward(inputs, y, machine, adjoint, done);
}

// `kernel_gradient` or the same by fewer multiplications, whichever is faster.
inline void convolve_gradient(const Features& x, const Features& g, float* kernel, const Machine& machine) {
    if (suits_winograd({{x, nullptr}}, g.channels)) winograd_kernel_gradient(x, g, kernel, machine);
    else kernel_gradient(x, g, kernel, machine);
}

}  // namespace kidseg::layers
