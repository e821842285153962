// Custom calls of XLA on CPU: unwraps the buffers, checks that they fit together, calls the loops on XLA's threads.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>

#include "layers/linear.hpp"
#include "layers/loss.hpp"
#include "layers/norm.hpp"
#include "layers/pooling.hpp"
#include "layers/winograd.hpp"
#include "xla/c_interface.hpp"
#include "xla/parallel.hpp"

namespace kidseg::calls {

inline std::atomic<Isa> instruction_set{Isa::best};

inline layers::Machine machine_of(const xla::Call* call) { return {xla::on_threads_of(call), instruction_set.load()}; }

inline const xla::Buffer& buffer(const xla::Buffers& buffers, std::int64_t i, std::int64_t rank) {
    if (i < 0 || i >= buffers.size || buffers.at[i]->rank != rank || buffers.at[i]->dtype != xla::float32)
        throw std::invalid_argument("_layers: need a float32 buffer of rank " + std::to_string(rank));
    return *buffers.at[i];
}

template <class T>
FeatureMap<T> features(const xla::Buffers& buffers, std::int64_t i) {
    const xla::Buffer& b = buffer(buffers, i, 5);
    return {static_cast<T*>(b.data), {b.dims[0], b.dims[1], b.dims[2], b.dims[3]}, b.dims[4]};
}

inline Features input(const xla::Call* call, std::int64_t i) { return features<const float>(call->inputs, i); }
inline NewFeatures output(const xla::Call* call, std::int64_t i) { return features<float>(call->outputs, i); }

inline void require(bool holds) {
    if (!holds) throw std::invalid_argument("_layers: shapes of the buffers do not fit together");
}

// The floats of a buffer of these dimensions.
template <class T>
T* floats(const xla::Buffers& buffers, std::int64_t i, std::initializer_list<Index> dims) {
    const xla::Buffer& b = buffer(buffers, i, static_cast<std::int64_t>(dims.size()));
    require(std::equal(dims.begin(), dims.end(), b.dims));
    return static_cast<T*>(b.data);
}

inline const float* input(const xla::Call* call, std::int64_t i, std::initializer_list<Index> dims) {
    return floats<const float>(call->inputs, i, dims);
}
inline float* output(const xla::Call* call, std::int64_t i, std::initializer_list<Index> dims) {
    return floats<float>(call->outputs, i, dims);
}

// Whether two feature maps are of one shape, but for their channels.
template <class A, class B>
bool alike(const FeatureMap<A>& a, const FeatureMap<B>& b) {
    return a.shape == b.shape;
}

// The first n buffers of a call: x_1, kernel_1, x_2, kernel_2, ...
template <bool adjoint>
layers::Inputs convolved(const xla::Call* call, std::int64_t n, const NewFeatures& y) {
    require(n > 0);
    layers::Inputs inputs;
    for (std::int64_t i = 0; i < n; i += 2) {
        const Features x = input(call, i);
        require(alike(x, y));
        const Index from = adjoint ? y.channels : x.channels, to = adjoint ? x.channels : y.channels;
        inputs.push_back({x, input(call, i + 1, {3, 3, 3, from, to})});
    }
    return inputs;
}

// (x_1, kernel_1, x_2, kernel_2, ...) -> y, or (g, kernel) -> the gradient in x.
template <bool adjoint>
void forward(const xla::Call* call) {
    const NewFeatures y = output(call, 0);
    layers::convolve(convolved<adjoint>(call, call->inputs.size, y), y, machine_of(call), adjoint);
}

// (x_1, kernel_1, ..., scale, bias) -> (z, y, mean, inverse): leaky ReLU of the norm of y, the sum of convolutions.
inline void block(const xla::Call* call) {
    const std::int64_t n = call->inputs.size - 2;
    const NewFeatures z = output(call, 0), y = output(call, 1);
    const Index b = y.shape.batch, c = y.channels;
    require(alike(z, y) && z.channels == c);
    const auto scale = input(call, n, {c}), bias = input(call, n + 1, {c});
    const auto mean = output(call, 2, {b, c}), inverse = output(call, 3, {b, c});
    const layers::Machine machine = machine_of(call);
    layers::Moments moments(y.shape, c, machine.isa);
    layers::convolve(convolved<false>(call, n, y), y, machine, false,
                     [&](Index s) { moments.add_slice(s, y.slice(s)); });
    moments.finish(mean, inverse);
    layers::normalize({y.data, y.shape, c}, {mean, inverse, scale, bias}, z, machine);
}

// (y, mean, inverse, scale, bias, g) -> the gradients in y, scale and bias.
inline void norm_gradient(const xla::Call* call) {
    const Features y = input(call, 0), g = input(call, 5);
    const NewFeatures dy = output(call, 0);
    const Index b = y.shape.batch, c = y.channels;
    require(alike(g, y) && alike(dy, y) && g.channels == c && dy.channels == c);
    const layers::Norm norm{input(call, 1, {b, c}), input(call, 2, {b, c}), input(call, 3, {c}), input(call, 4, {c})};
    layers::normalize_gradient(y, g, norm, dy, output(call, 1, {c}), output(call, 2, {c}), machine_of(call));
}

// (x, g) -> the gradient in the kernel.
inline void kernel_gradient(const xla::Call* call) {
    const Features x = input(call, 0), g = input(call, 1);
    require(alike(x, g));
    layers::convolve_gradient(x, g, output(call, 0, {3, 3, 3, x.channels, g.channels}), machine_of(call));
}

// Side of the blocks of x that are one voxel of y.
template <class X, class Y>
Index block_side(const FeatureMap<X>& x, const FeatureMap<Y>& y) {
    const Shape &fine = x.shape, &coarse = y.shape;
    require(coarse.depth > 0 && x.channels == y.channels);
    const Index n = fine.depth / coarse.depth;
    require(fine == Shape{coarse.batch, n * coarse.depth, n * coarse.height, n * coarse.width});
    return n;
}

// x -> the largest value of each block.
inline void max_pool(const xla::Call* call) {
    const Features x = input(call, 0);
    const NewFeatures y = output(call, 0);
    layers::max_pool(x, block_side(x, y), y, machine_of(call));
}

// (x, y, g) -> the gradient in x.
inline void max_pool_gradient(const xla::Call* call) {
    const Features x = input(call, 0), y = input(call, 1), g = input(call, 2);
    const NewFeatures dx = output(call, 0);
    const Index n = block_side(x, y);
    require(block_side(x, g) == n && block_side(dx, y) == n);
    layers::max_pool_gradient(x, n, y, g, dx, machine_of(call));
}

// x -> every voxel as a block.
inline void upsample(const xla::Call* call) {
    const Features x = input(call, 0);
    const NewFeatures y = output(call, 0);
    layers::upsample(x, block_side(y, x), y, machine_of(call));
}

// g -> the sum over each block.
inline void upsample_gradient(const xla::Call* call) {
    const Features g = input(call, 0);
    const NewFeatures dx = output(call, 0);
    layers::upsample_gradient(g, block_side(g, dx), dx, machine_of(call));
}

// (x, w) or (x, w, bias) -> x w + bias for each voxel.
inline void linear(const xla::Call* call) {
    const Features x = input(call, 0);
    const NewFeatures y = output(call, 0);
    require(alike(x, y));
    const float* bias = call->inputs.size > 2 ? input(call, 2, {y.channels}) : nullptr;
    layers::linear(x, input(call, 1, {x.channels, y.channels}), bias, y, machine_of(call));
}

// (x, g) -> the gradients in w and the bias.
inline void linear_gradient(const xla::Call* call) {
    const Features x = input(call, 0), g = input(call, 1);
    require(alike(x, g));
    layers::linear_gradient(x, g, output(call, 0, {x.channels, g.channels}), output(call, 1, {g.channels}),
                            machine_of(call));
}

inline const std::int32_t* labels_of(const xla::Call* call, const Features& logits) {
    require(call->inputs.size > 1);
    const xla::Buffer& b = *call->inputs.at[1];
    require(b.rank == 4 && b.dtype == xla::int32 && logits.shape == Shape{b.dims[0], b.dims[1], b.dims[2], b.dims[3]});
    return static_cast<const std::int32_t*>(b.data);
}

// (logits, labels) -> the sums over voxels of each class.
template <bool squared>
void region_sums(const xla::Call* call) {
    const Features logits = input(call, 0);
    layers::region_sums(logits, labels_of(call, logits), squared, output(call, 0, {logits.channels, 4}),
                        machine_of(call));
}

// (logits, labels, g) -> the gradient in the logits.
template <bool squared>
void region_gradient(const xla::Call* call) {
    const Features logits = input(call, 0);
    const NewFeatures out = output(call, 0);
    require(alike(out, logits) && out.channels == logits.channels);
    const float* g = input(call, 2, {logits.channels, 4});
    layers::region_gradient(logits, labels_of(call, logits), squared, g, out, machine_of(call));
}

template <void (*run)(const xla::Call*)>
xla::Error* handler(xla::Call* call) {
    if (xla::answered_metadata(call)) return nullptr;
    try {
        run(call);
    } catch (const std::invalid_argument& e) {
        return xla::error(call, xla::invalid_argument, e.what());
    } catch (const std::exception& e) {
        return xla::error(call, xla::internal_error, e.what());
    }
    return nullptr;
}

struct Target {
    const char* name;
    xla::Error* (*run)(xla::Call*);
};

inline constexpr Target targets[] = {
    {"kidseg_conv3d", handler<forward<false>>},
    {"kidseg_conv3d_input_gradient", handler<forward<true>>},
    {"kidseg_conv3d_kernel_gradient", handler<kernel_gradient>},
    {"kidseg_block", handler<block>},
    {"kidseg_norm_gradient", handler<norm_gradient>},
    {"kidseg_max_pool", handler<max_pool>},
    {"kidseg_max_pool_gradient", handler<max_pool_gradient>},
    {"kidseg_upsample", handler<upsample>},
    {"kidseg_upsample_gradient", handler<upsample_gradient>},
    {"kidseg_linear", handler<linear>},
    {"kidseg_linear_gradient", handler<linear_gradient>},
    {"kidseg_region_sums_1", handler<region_sums<false>>},
    {"kidseg_region_sums_2", handler<region_sums<true>>},
    {"kidseg_region_gradient_1", handler<region_gradient<false>>},
    {"kidseg_region_gradient_2", handler<region_gradient<true>>},
};

}  // namespace kidseg::calls
