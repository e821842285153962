// Checks the custom calls of csrc/xla/calls.hpp on odd shapes, with every instruction set of this machine, against
// plain loops in double. tests/sanitize_kernels.py builds it with sanitizers; fake_xla.hpp says what they can find.
#include <cstdio>
#include <limits>
#include <random>

#include "support/fake_xla.hpp"

using namespace fake_xla;
using namespace kidseg;

namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

double value(const Array& a, Index i) { return double{a.values[at(i)]}; }

std::mt19937 random_bits(7);

Array normal(const Dims& dims) {
    Array out{dims, {}, {}};
    std::normal_distribution<float> draw;
    for (Index i = product(dims); i > 0; --i) out.values.push_back(draw(random_bits));
    return out;
}

Index drawn(Index low, Index high) { return std::uniform_int_distribution<Index>(low, high)(random_bits); }

Dims with(Dims dims, Index channels) {
    dims.push_back(channels);
    return dims;
}

Expected zeros(const Dims& dims) { return {dims, std::vector<double>(at(product(dims)))}; }

Array rounded(const Expected& e) { return {e.dims, {e.values.begin(), e.values.end()}, {}}; }

// Calls visit(voxel, neighbour, tap) for all that meet in a 3x3x3 convolution of (b, z, y, x).
template <class Visit>
void through_taps(const Dims& s, Visit&& visit) {
    const Index depth = s[1], height = s[2], width = s[3];
    for (Index i = 0; i < product(s); ++i)
        for (Index tap = 0; tap < 27; ++tap) {
            const Index dz = tap / 9 - 1, dy = tap / 3 % 3 - 1, dx = tap % 3 - 1;
            const Index z = i / (width * height) % depth + dz, y = i / width % height + dy, x = i % width + dx;
            if (z < 0 || z >= depth || y < 0 || y >= height || x < 0 || x >= width) continue;
            visit(i, i + (dz * height + dy) * width + dx, tap);
        }
}

void add_convolution(const Array& x, const Array& kernel, Expected& y) {
    const Index c_in = kernel.dims[3], c_out = kernel.dims[4];
    through_taps({x.dims.begin(), x.dims.end() - 1}, [&](Index i, Index from, Index tap) {
        for (Index c = 0; c < c_in; ++c)
            for (Index k = 0; k < c_out; ++k)
                y.values[at(i * c_out + k)] += value(x, from * c_in + c) * value(kernel, (tap * c_in + c) * c_out + k);
    });
}

void check_convolution(const Dims& s, Index c_in, Index c_out) {
    const Array x = normal(with(s, c_in)), kernel = normal({3, 3, 3, c_in, c_out}), g = normal(with(s, c_out));
    Expected y = zeros(g.dims), dx = zeros(x.dims), dk = zeros(kernel.dims);
    add_convolution(x, kernel, y);
    through_taps(s, [&](Index i, Index from, Index tap) {
        for (Index c = 0; c < c_in; ++c)
            for (Index k = 0; k < c_out; ++k) {
                const Index x_at = from * c_in + c, g_at = i * c_out + k, k_at = (tap * c_in + c) * c_out + k;
                dx.values[at(x_at)] += value(g, g_at) * value(kernel, k_at);
                dk.values[at(k_at)] += value(g, g_at) * value(x, x_at);
            }
    });
    check("kidseg_conv3d", {x, kernel}, {y});
    check("kidseg_conv3d_input_gradient", {g, kernel}, {dx});
    check("kidseg_conv3d_kernel_gradient", {x, g}, {dk});
}

constexpr double slope = 0.01;

void check_block(const Dims& s, const std::vector<Index>& c_in, Index c) {
    Arrays inputs;
    const Index voxels = product(s) / s[0];
    Expected y = zeros(with(s, c)), z = zeros(y.dims), mean = zeros({s[0], c}), inverse = zeros({s[0], c});
    for (const Index channels : c_in) {
        inputs.push_back(normal(with(s, channels)));
        inputs.push_back(normal({3, 3, 3, channels, c}));
        add_convolution(inputs.end()[-2], inputs.back(), y);
    }
    check("kidseg_conv3d", inputs, {y});
    const Array scale = normal({c}), bias = normal({c}), g = normal(y.dims);
    Expected dy = zeros(y.dims), dscale = zeros({c}), dbias = zeros({c});
    for (Index b = 0; b < s[0]; ++b)
        for (Index k = 0; k < c; ++k) {
            const auto each = [&](auto&& visit) {
                for (Index i = b * voxels; i < (b + 1) * voxels; ++i) visit(at(i * c + k));
            };
            double sum = 0, square = 0;
            each([&](std::size_t i) { sum += y.values[i]; });
            const double m = sum / static_cast<double>(voxels);
            each([&](std::size_t i) { square += (y.values[i] - m) * (y.values[i] - m); });
            const double inv = 1 / std::sqrt(square / static_cast<double>(voxels) + layers::norm_epsilon);
            mean.values[at(b * c + k)] = m, inverse.values[at(b * c + k)] = inv;
            const double gain = value(scale, k) * inv;
            const auto before = [&](std::size_t i) { return (y.values[i] - m) * gain + value(bias, k); };
            const auto u = [&](std::size_t i) { return double{g.values[i]} * (before(i) >= 0 ? 1 : slope); };
            double sum_u = 0, dot = 0;
            each([&](std::size_t i) {
                z.values[i] = before(i) * (before(i) >= 0 ? 1 : slope);
                sum_u += u(i), dot += u(i) * (y.values[i] - m) * inv;
                inverse.scale = std::max(inverse.scale, std::abs(y.values[i]) * inv * inv);
                z.scale = std::max(z.scale, std::abs(y.values[i] * gain));
                dy.scale = std::max(dy.scale, std::abs(g.values[i] * gain) * (1 + std::abs(m * inv)));
            });
            dbias.values[at(k)] += sum_u, dscale.values[at(k)] += dot;
            dscale.scale = std::max(dscale.scale, std::abs(m * inv));
            each([&](std::size_t i) {
                const double mean_of_both = (sum_u + (y.values[i] - m) * inv * dot) / static_cast<double>(voxels);
                dy.values[i] = gain * (u(i) - mean_of_both);
            });
        }
    inputs.push_back(scale), inputs.push_back(bias);
    check("kidseg_block", inputs, {z, y, mean, inverse});
    check("kidseg_norm_gradient", {rounded(y), rounded(mean), rounded(inverse), scale, bias, g}, {dy, dscale, dbias});
}

// Calls visit(value, value of its block) for (b, z, y, x, c) and blocks of n^3 voxels.
template <class Visit>
void through_blocks(const Dims& s, Index n, Index c, Visit&& visit) {
    for (Index j = 0; j < product(s) * n * n * n * c; ++j) {
        const Index x = j / c % (s[3] * n), row = j / c / (s[3] * n), y = row % (s[2] * n), slice = row / (s[2] * n);
        visit(((slice / n * s[2] + y / n) * s[3] + x / n) * c + j % c, j);
    }
}

void check_blocks(const Dims& s, Index c, Index n) {
    const Dims fine{s[0], s[1] * n, s[2] * n, s[3] * n, c};
    const Array x = normal(with(s, c)), large = normal(fine);
    Expected up = zeros(fine), down = zeros(x.dims), largest = zeros(x.dims), of_largest = zeros(fine);
    std::fill(largest.values.begin(), largest.values.end(), -std::numeric_limits<double>::infinity());
    through_blocks(s, n, c, [&](Index i, Index j) {
        up.values[at(j)] = value(x, i);
        down.values[at(i)] += value(large, j);
        largest.values[at(i)] = std::max(largest.values[at(i)], value(large, j));
    });
    through_blocks(s, n, c, [&](Index i, Index j) {
        of_largest.values[at(j)] = value(large, j) == largest.values[at(i)] ? value(x, i) : 0;
    });
    check("kidseg_upsample", {x}, {up});
    check("kidseg_upsample_gradient", {large}, {down});
    check("kidseg_max_pool", {large}, {largest});
    check("kidseg_max_pool_gradient", {large, rounded(largest), x}, {of_largest});
}

void check_linear(const Dims& s, Index c_in, Index c_out) {
    const Array x = normal(with(s, c_in)), w = normal({c_in, c_out}), bias = normal({c_out});
    const Array g = normal(with(s, c_out));
    Expected y = zeros(g.dims), dw = zeros(w.dims), db = zeros(bias.dims);
    for (Index i = 0; i < product(s); ++i)
        for (Index k = 0; k < c_out; ++k) {
            const Index here = i * c_out + k;
            db.values[at(k)] += value(g, here);
            for (Index c = 0; c < c_in; ++c) {
                y.values[at(here)] += value(x, i * c_in + c) * value(w, c * c_out + k);
                dw.values[at(c * c_out + k)] += value(x, i * c_in + c) * value(g, here);
            }
        }
    check("kidseg_linear", {x, w}, {y});
    for (std::size_t i = 0; i < y.values.size(); ++i) y.values[i] += double{bias.values[i % at(c_out)]};
    check("kidseg_linear", {x, w, bias}, {y});
    check("kidseg_linear_gradient", {x, g}, {dw, db});
}

void check_loss(const Dims& s, Index c, int power) {
    const Array logits = normal(with(s, c)), g = normal({c, 4});
    Array labels{s, {}, {}};
    for (Index i = 0; i < product(s); ++i) labels.labels.push_back(static_cast<std::int32_t>(drawn(-1, c)));
    Expected sums = zeros({c, 4}), gradient = zeros(logits.dims);
    gradient.scale = 1;
    for (Index i = 0; i < product(s); ++i) {
        const Index label = labels.labels[at(i)];
        std::vector<double> p(at(c)), slopes(at(c));
        double total = 0, dot = 0;
        for (Index k = 0; k < c; ++k) total += std::exp(value(logits, i * c + k));
        for (Index k = 0; k < c; ++k) {
            const double prob = p[at(k)] = std::exp(value(logits, i * c + k)) / total;
            slopes[at(k)] = (k == label ? value(g, 4 * k) : 0) + value(g, 4 * k + 1) * (power == 2 ? 2 * prob : 1);
            dot += prob * slopes[at(k)];
            double* of_class = sums.values.data() + 4 * k;
            of_class[1] += power == 2 ? prob * prob : prob;
            if (k == label) of_class[0] += prob, of_class[2] += 1, of_class[3] -= std::log(prob);
        }
        const double nll = label >= 0 && label < c ? value(g, 4 * label + 3) : 0;
        for (Index k = 0; k < c; ++k)
            gradient.values[at(i * c + k)] = p[at(k)] * (slopes[at(k)] - dot) + nll * (p[at(k)] - (k == label ? 1 : 0));
    }
    const std::string suffix = "_" + std::to_string(power);
    check("kidseg_region_sums" + suffix, {logits, labels}, {sums});
    check("kidseg_region_gradient" + suffix, {logits, labels, g}, {gradient});
}

constexpr Index channels[] = {1, 3, 8, 13, 16, 24, 33, 70};  // 13: part of a wide block

// (b, z, y, x) with sides of 1 to 13, so that the voxels times `work` stay below a bound.
Dims drawn_shape(Index work) {
    Dims s{drawn(1, 2), drawn(1, 13), drawn(1, 13), drawn(1, 13)};
    while (product(s) * work > 40'000) {
        auto& longest = *std::max_element(s.begin(), s.end());
        longest = (longest + 1) / 2;
    }
    return s;
}

void check_all() {
    check_refusals();
    check_errors_of_tasks();
    for (const Index c_in : channels)
        for (const Index c_out : channels) {
            check_convolution(drawn_shape(c_in * c_out), c_in, c_out);
            check_linear(drawn_shape(c_in * c_out), c_in, c_out);
        }
    for (const Index c : channels) {
        check_block(drawn_shape(c * c), {c}, c);
        check_block(drawn_shape(c * (c + 8)), {8, c}, c);
        check_block(drawn_shape(8 * (c + 24)), {16, c, 8}, 8);
        check_blocks(drawn_shape(64 * c), c, 2);
        check_blocks(drawn_shape(216 * c), c, 3);
        for (const int power : {1, 2}) check_loss(drawn_shape(16 * c), c, power);
    }
    for (const Index height : {4, 5, 9, 13})  // enough pixels in tiles for Winograd's form
        for (const Index width : {4, 5, 7, 10}) check_convolution({1, drawn(1, 3), height, width}, 16, drawn(2, 3) * 8);
    check_convolution({1, 2, 3, 101}, 3, 8);    // rows longer than registers hold
    check_convolution({1, 2, 22, 21}, 16, 16);  // more tiles than are summed at once
    check_convolution({1, 40, 2, 3}, 8, 8);     // more slices than tasks
    check_linear({1, 13, 13, 13}, 3, 5);        // more voxels than one task takes
    check_loss({1, 1, 13, 13}, 3, 1);           // more voxels than one block
}

}  // namespace

int main() {
    try {
        check_all();
    } catch (const std::exception& e) {
        std::fprintf(stderr, "layers_check: %s\n", e.what());
        return 1;
    }
    std::printf("layers_check: %d calls agree with plain loops\n", checked);
}
