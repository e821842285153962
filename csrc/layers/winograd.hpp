// 3x3x3 convolution with 2.25 times fewer multiplications: a 3x3 kernel makes 2x2 pixels of 4x4 from products at 16 points,
// summed over channels and the three slices before the result is taken back. Exact up to rounding.
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

struct WinogradInner {
    int wide, narrow;
    WinogradLoops of_wide, of_narrow;

    [[nodiscard]] const WinogradLoops& of(Index channels) const { return channels % wide == 0 ? of_wide : of_narrow; }
    [[nodiscard]] const WinogradLoops& of(const Block& block) const { return block.lanes == wide ? of_wide : of_narrow; }
};

#define KIDSEG_LOOPS "layers/winograd-inl.hpp"
#include "layers/each_instruction_set.hpp"

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
    void fill(Index z, const std::vector<Input>& inputs) {
        Index before = 0;
        for (const Input& input : inputs) {
            zeros_.resize(static_cast<std::size_t>(s_.width * input.channels));
            for (Index y = 0; y < s_.height; y += 2) {
                const float* rows[4];
                for (Index r = 0; r < 4; ++r) rows[r] = row(input, z, y + r - 1);
                inner_.of(input.channels).input_tiles(rows, s_.width, input.channels, tile_row(z, y) + before, places_);
            }
            before += input.channels;
        }
    }

    // Each pair of pixels of a gradient.
    void fill_gradient(Index z, const Input& g) {
        zeros_.resize(static_cast<std::size_t>(s_.width * g.channels));
        for (Index y = 0; y < s_.height; y += 2) {
            const float* rows[2] = {row(g, z, y), row(g, z, y + 1)};
            inner_.of(g.channels).gradient_tiles(rows, s_.width, g.channels, tile_row(z, y), places_);
        }
    }

private:
    [[nodiscard]] const float* row(const Input& input, Index z, Index y) const {
        return y < 0 || y >= s_.height ? zeros_.data() : input.x + (z * s_.height + y) * s_.width * input.channels;
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

// Calls visit(z, first slice, last slice) for z in [first, last) when the slices that its outputs need are in the ring.
template <class Fill, class Visit>
void through_slices(const Shape& s, Index first, Index last, Fill&& fill, Visit&& visit) {
    for (Index z = first; z < last; ++z) {
        const Index in_case = z % s.depth;
        const Index low = in_case == 0 ? z : z - 1, high = in_case == s.depth - 1 ? z : z + 1;
        for (Index needed = z == first ? low : in_case == 0 ? z : z + 1; needed <= high; ++needed) fill(needed);
        visit(z, low, high);
    }
}

// Tasks of one loop over n slices; each takes two slices more than its own.
[[nodiscard]] inline Index slice_tasks(Index n) { return std::min(n, std::max(n / 16, std::clamp<Index>(n / 4, 4, 8))); }

// Weights of one block (point, tap z, channel of all inputs, lane).
inline void pack_points(const std::vector<Input>& inputs, Index channels, Index c_out, const Block& block, bool adjoint,
                        const WinogradInner& inner, float* to) {
    for (Index tz = 0; tz < 3; ++tz)
        for (const Input& input : inputs) {
            const Index size = input.channels * c_out, tap = adjoint ? 26 - 9 * tz : 9 * tz;
            const KernelTaps taps{input.kernel + tap * size + block.first * (adjoint ? input.channels : 1), adjoint ? -size : size,
                                  adjoint ? 1 : c_out, adjoint ? input.channels : 1};
            inner.of(block).kernel_weights(taps, input.channels, to, 3 * channels * block.lanes);
            to += input.channels * block.lanes;
        }
}

}  // namespace detail

// Whether channels fill whole vectors, are enough to outweigh the change to points and back, and few pixels of the tiles
// lie outside.
[[nodiscard]] inline bool suits_winograd(const std::vector<Input>& inputs, const Shape& s, Index c_out) {
    Index channels = 0;
    for (const Input& input : inputs) {
        if (input.channels % 8 != 0) return false;
        channels += input.channels;
    }
    return c_out % 8 == 0 && channels * c_out >= 256 && 2 * s.plane() >= 5 * detail::TileRing::tiles(s);
}

// As `forward`.
inline void winograd_forward(const std::vector<Input>& inputs, const Shape& s, float* y, Index c_out, const Parallel& parallel,
                             bool adjoint, Isa isa, const SliceDone& done) {
    using namespace detail;
    const auto inner = loops_of<WinogradInner>(isa);
    const auto blocks = channel_blocks(inner.wide, inner.narrow, c_out);
    Index channels = 0;
    for (const Input& input : inputs) channels += input.channels;
    std::vector<float> weights(static_cast<std::size_t>(3 * points * channels * c_out));
    const auto weights_of = [&](const Block& block) { return weights.data() + 3 * points * channels * block.first; };
    for (const Block& block : blocks) pack_points(inputs, channels, c_out, block, adjoint, inner, weights_of(block));
    const Index n = s.slices(), tasks = slice_tasks(n), tiles = TileRing::tiles(s);
    parallel(tasks, [&](Index task) {
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
                    inner.of(block).output_pixels(sums.data(), per_point, tile, end, s, y + z * s.plane() * c_out + block.first,
                                                  c_out);
                }
            }
            if (done) done(z);
        });
    });
}

// As `kernel_gradient`.
inline void winograd_kernel_gradient(const float* x, Index c_in, const float* g, Index c_out, const Shape& s, float* kernel,
                                     const Parallel& parallel, Isa isa) {
    using namespace detail;
    const auto inner = loops_of<WinogradInner>(isa);
    const auto blocks = channel_blocks(inner.wide, inner.narrow, c_out);
    const Index n = s.slices(), size = 3 * c_in * c_out, tasks = slice_tasks(n);
    std::vector<float> sums(static_cast<std::size_t>(tasks * points * size));
    parallel(tasks, [&](Index task) {
        TileRing of_x(s, c_in, inner), of_g(s, c_out, inner);
        float* to = sums.data() + task * points * size;
        const auto fill = [&](Index z) { of_x.fill(z, {{x, nullptr, c_in}}); };
        through_slices(s, task * n / tasks, (task + 1) * n / tasks, fill, [&](Index z, Index low, Index high) {
            of_g.fill_gradient(z, {g, nullptr, c_out});
            for (Index p = 0; p < points; ++p)
                for (const Block& block : blocks) {
                    Outer outer{{}, 0, of_g.point(z, p) + block.first, TileRing::tiles(s), c_in, c_out};
                    for (Index of = low; of <= high; ++of) outer.v[outer.n++] = of_x.point(of, p);
                    inner.of(block).outer(outer, to + p * size + (low - z + 1) * c_in * c_out + block.first);
                }
        });
    });
    parallel(3 * c_in, [&](Index row) {  // of (tap z, input channel)
        for (Index task = 1; task < tasks; ++task)
            for (Index p = 0; p < points; ++p) {
                float* to = sums.data() + p * size + row * c_out;
                const float* from = to + task * points * size;
                for (Index c = 0; c < c_out; ++c) to[c] += from[c];
            }
        for (const Block& block : blocks)
            inner.of(block).kernel_taps(sums.data() + row * c_out + block.first, size,
                                        kernel + (row / c_in * 9 * c_in + row % c_in) * c_out + block.first, c_in * c_out);
    });
}

// `forward` or the same by fewer multiplications, whichever is faster.
inline void convolve(const std::vector<Input>& inputs, const Shape& s, float* y, Index c_out, const Parallel& parallel, bool adjoint,
                     Isa isa, const SliceDone& done = {}) {
    if (suits_winograd(inputs, s, c_out)) winograd_forward(inputs, s, y, c_out, parallel, adjoint, isa, done);
    else forward(inputs, s, y, c_out, parallel, adjoint, isa, done);
}

// `kernel_gradient` or the same by fewer multiplications, whichever is faster.
inline void convolve_gradient(const float* x, Index c_in, const float* g, Index c_out, const Shape& s, float* kernel,
                              const Parallel& parallel, Isa isa) {
    if (suits_winograd({{x, nullptr, c_in}}, s, c_out)) winograd_kernel_gradient(x, c_in, g, c_out, s, kernel, parallel, isa);
    else kernel_gradient(x, c_in, g, c_out, s, kernel, parallel, isa);
}

}  // namespace kidseg::layers
