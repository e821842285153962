// Instance norm over z, y, x with a gain and a bias for each channel, then a leaky ReLU, and its gradient. Sums are
// taken slice by slice in a fixed order: no result depends on the number of threads.
#pragma once

#include <cmath>

#include "layers/loops.hpp"

namespace kidseg::layers {

constexpr double norm_epsilon = 1e-5;
constexpr float leaky_slope = 0.01F;

namespace detail {

// n tiles of `size` floats: what one loop walks.
struct Tiles {
    Index n, size;
};

// What a norm needs of each channel, repeated over a tile.
struct TiledNorm {
    const float* __restrict mean;
    const float* __restrict gain;
    const float* __restrict bias;
    float slope;
};

struct NormInner {
    void (*add_values)(Tiles, const float* y, float* sums);
    void (*add_squares)(Tiles, const float* y, const float* mean, float* sums);
    void (*normalize)(Tiles, const float* y, const TiledNorm&, float* z);
    void (*add_gradients)(Tiles, const float* y, const float* g, const TiledNorm&, float* sums, float* dots);
    void (*input_gradient)(Tiles, const float* y, const float* g, const TiledNorm&, const float* of_sum,
                           const float* of_dot, float* dy);
};

#define KIDSEG_LOOPS "layers/norm-inl.hpp"
#include "layers/each_instruction_set.hpp"

// Tiles of about 64 floats, of whole pixels that divide a slice.
[[nodiscard]] inline Tiles tiles_of(const Shape& s, Index channels) {
    Index pixels = std::min(s.plane(), std::max<Index>(1, 64 / channels));
    while (s.plane() % pixels != 0) --pixels;
    return {s.plane() / pixels, pixels * channels};
}

[[nodiscard]] inline std::vector<float> tiled(const float* of_channel, Index channels, Tiles t) {
    std::vector<float> out(static_cast<std::size_t>(t.size));
    for (Index i = 0; i < t.size; ++i) out[static_cast<std::size_t>(i)] = of_channel[i % channels];
    return out;
}

// Sum over the pixels of a tile, for each channel.
inline void fold_tile(const std::vector<float>& tile, Index channels, double* sums) {
    std::fill_n(sums, channels, 0.0);
    for (std::size_t i = 0; i < tile.size(); ++i) sums[i % static_cast<std::size_t>(channels)] += double{tile[i]};
}

}  // namespace detail

// Mean and sum of squares about it of each channel in each slice, and from them those of each case.
class Moments {
public:
    Moments(const Shape& shape, Index channels, Isa isa)
        : s(shape), c(channels), inner(detail::loops_of<detail::NormInner>(isa)), means(count()), squares(count()) {}

    // Slices may be added in any order, at the same time.
    void add_slice(Index z, const float* y) {
        const detail::Tiles t = detail::tiles_of(s, c);
        double *mean = means.data() + z * c, *square = squares.data() + z * c;
        std::vector<float> sums(static_cast<std::size_t>(t.size)), centre(static_cast<std::size_t>(c));
        inner.add_values(t, y, sums.data());
        detail::fold_tile(sums, c, mean);
        for (Index i = 0; i < c; ++i) {
            centre[static_cast<std::size_t>(i)] = static_cast<float>(mean[i] / static_cast<double>(s.plane()));
            mean[i] = double{centre[static_cast<std::size_t>(i)]};
        }
        const auto centres = detail::tiled(centre.data(), c, t);
        std::fill(sums.begin(), sums.end(), 0.0F);
        inner.add_squares(t, y, centres.data(), sums.data());
        detail::fold_tile(sums, c, square);
    }

    // (batch, channel): mean and 1 / standard deviation.
    void finish(float* mean, float* inverse) const {
        for (Index b = 0; b < s.batch; ++b)
            for (Index i = 0; i < c; ++i) {
                double sum = 0, square = 0;
                for (Index z = b * s.depth; z < (b + 1) * s.depth; ++z) sum += means[at(z, i)];
                const double centre = sum / static_cast<double>(s.depth);
                for (Index z = b * s.depth; z < (b + 1) * s.depth; ++z) {
                    const double d = means[at(z, i)] - centre;
                    square += squares[at(z, i)] + d * d * static_cast<double>(s.plane());
                }
                mean[b * c + i] = static_cast<float>(centre);
                const double variance = square / static_cast<double>(s.depth * s.plane());
                inverse[b * c + i] = static_cast<float>(1.0 / std::sqrt(variance + norm_epsilon));
            }
    }

private:
    [[nodiscard]] std::size_t count() const { return static_cast<std::size_t>(s.slices() * c); }
    [[nodiscard]] std::size_t at(Index z, Index i) const { return static_cast<std::size_t>(z * c + i); }
    Shape s;
    Index c;
    detail::NormInner inner;
    std::vector<double> means, squares;
};

// mean and inverse, 1 / standard deviation, (batch, c); scale, bias (c).
struct Norm {
    const float *mean, *inverse, *scale, *bias;
};

namespace detail {

// The norm of one case, repeated over a tile.
class NormOfCase {
public:
    NormOfCase(const Norm& norm, Index of_case, Index c, Tiles t) {
        std::vector<float> gains(static_cast<std::size_t>(c));
        for (Index i = 0; i < c; ++i)
            gains[static_cast<std::size_t>(i)] = norm.inverse[of_case * c + i] * norm.scale[i];
        mean_ = tiled(norm.mean + of_case * c, c, t);
        gain_ = tiled(gains.data(), c, t);
        bias_ = tiled(norm.bias, c, t);
    }
    [[nodiscard]] TiledNorm tile() const { return {mean_.data(), gain_.data(), bias_.data(), leaky_slope}; }

private:
    std::vector<float> mean_, gain_, bias_;
};

}  // namespace detail

// z = leaky ReLU of (y - mean) * inverse * scale + bias.
inline void normalize(const Features& y, const Norm& norm, const NewFeatures& z, const Machine& machine) {
    const auto inner = detail::loops_of<detail::NormInner>(machine.isa);
    const Index c = y.channels;
    const detail::Tiles t = detail::tiles_of(y.shape, c);
    machine.parallel(y.shape.slices(), [&](Index i) {
        const detail::NormOfCase here(norm, i / y.shape.depth, c, t);
        inner.normalize(t, y.slice(i), here.tile(), z.slice(i));
    });
}

// Gradients of sum(g * z) in y, scale and bias.
inline void normalize_gradient(const Features& y, const Features& g, const Norm& norm, const NewFeatures& dy,
                               float* dscale, float* dbias, const Machine& machine) {
    const auto inner = detail::loops_of<detail::NormInner>(machine.isa);
    const Shape& s = y.shape;
    const Index c = y.channels;
    const detail::Tiles t = detail::tiles_of(s, c);
    const auto size = static_cast<std::size_t>(s.slices() * c);
    std::vector<double> sums(size), dots(size);
    machine.parallel(s.slices(), [&](Index i) {
        const detail::NormOfCase here(norm, i / s.depth, c, t);
        std::vector<float> sum(static_cast<std::size_t>(t.size)), dot(static_cast<std::size_t>(t.size));
        inner.add_gradients(t, y.slice(i), g.slice(i), here.tile(), sum.data(), dot.data());
        detail::fold_tile(sum, c, sums.data() + i * c);
        detail::fold_tile(dot, c, dots.data() + i * c);
    });
    const auto voxels = static_cast<double>(s.depth * s.plane());
    std::vector<float> of_sum(static_cast<std::size_t>(s.batch * c)), of_dot(of_sum.size());
    for (Index i = 0; i < c; ++i) {
        double whole_sum = 0, whole_dot = 0;
        for (Index b = 0; b < s.batch; ++b) {
            double sum = 0, dot = 0;
            for (Index z = b * s.depth; z < (b + 1) * s.depth; ++z) {
                sum += sums[static_cast<std::size_t>(z * c + i)];
                dot += dots[static_cast<std::size_t>(z * c + i)];
            }
            const double inv = double{norm.inverse[b * c + i]};
            of_sum[static_cast<std::size_t>(b * c + i)] = static_cast<float>(sum / voxels);
            of_dot[static_cast<std::size_t>(b * c + i)] = static_cast<float>(dot * inv * inv / voxels);
            whole_sum += sum;
            whole_dot += dot * inv;
        }
        dbias[i] = static_cast<float>(whole_sum);
        dscale[i] = static_cast<float>(whole_dot);
    }
    machine.parallel(s.slices(), [&](Index i) {
        const Index of_case = i / s.depth;
        const detail::NormOfCase here(norm, of_case, c, t);
        const auto sum = detail::tiled(of_sum.data() + of_case * c, c, t);
        const auto dot = detail::tiled(of_dot.data() + of_case * c, c, t);
        inner.input_gradient(t, y.slice(i), g.slice(i), here.tile(), sum.data(), dot.data(), dy.slice(i));
    });
}

}  // namespace kidseg::layers
