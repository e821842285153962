// Custom calls of XLA on CPU: unwraps the buffers, checks that they fit together, calls the loops on XLA's threads.
#pragma once

#include "layers/loss.hpp"
#include "layers/norm.hpp"
#include "layers/pointwise.hpp"
#include "layers/winograd.hpp"
#include "xla/c_interface.hpp"
#include "xla/parallel.hpp"

namespace kidseg::calls {

using layers::Index;

inline std::atomic<int> instruction_set{static_cast<int>(Isa::best)};

[[nodiscard]] inline Isa isa() { return static_cast<Isa>(instruction_set.load()); }

inline const xla::Buffer& buffer(const xla::Buffers& buffers, std::int64_t i, std::int64_t rank) {
    if (i < 0 || i >= buffers.size || buffers.at[i]->rank != rank || buffers.at[i]->dtype != xla::float32)
        throw std::invalid_argument("_layers: need a float32 buffer of rank " + std::to_string(rank));
    return *buffers.at[i];
}

inline const float* read(const xla::Buffer& b) { return static_cast<const float*>(b.data); }
inline float* write(const xla::Buffer& b) { return static_cast<float*>(b.data); }

inline layers::Shape voxels(const xla::Buffer& b) { return {b.dims[0], b.dims[1], b.dims[2], b.dims[3]}; }

inline void require(bool holds) {
    if (!holds) throw std::invalid_argument("_layers: shapes of the buffers do not fit together");
}

inline void require_like(const xla::Buffer& a, const xla::Buffer& b) { require(std::equal(a.dims, a.dims + 4, b.dims)); }

// The first buffers of a call: x_1, kernel_1, x_2, kernel_2, ...
template <bool adjoint>
std::vector<layers::Input> convolved(const xla::Call* call, std::int64_t n, const xla::Buffer& y) {
    std::vector<layers::Input> inputs;
    for (std::int64_t i = 0; i < n; i += 2) {
        const xla::Buffer &x = buffer(call->inputs, i, 5), &k = buffer(call->inputs, i + 1, 5);
        require_like(x, y);
        require(k.dims[0] == 3 && k.dims[1] == 3 && k.dims[2] == 3 && k.dims[adjoint ? 4 : 3] == x.dims[4] &&
                k.dims[adjoint ? 3 : 4] == y.dims[4]);
        inputs.push_back({read(x), read(k), x.dims[4]});
    }
    return inputs;
}

// (x_1, kernel_1, x_2, kernel_2, ...) -> y, or (g, kernel) -> the gradient in x.
template <bool adjoint>
void forward(const xla::Call* call) {
    const xla::Buffer& y = buffer(call->outputs, 0, 5);
    const auto inputs = convolved<adjoint>(call, call->inputs.size, y);
    layers::convolve(inputs, voxels(y), write(y), y.dims[4], on_threads_of(call), adjoint, isa());
}

constexpr float slope = 0.01F;

// (x_1, kernel_1, ..., scale, bias) -> (z, y, mean, inverse): leaky ReLU of the norm of y, the sum of convolutions.
inline void block(const xla::Call* call) {
    const std::int64_t n = call->inputs.size - 2;
    const xla::Buffer &scale = buffer(call->inputs, n, 1), &bias = buffer(call->inputs, n + 1, 1);
    const xla::Buffer &z = buffer(call->outputs, 0, 5), &y = buffer(call->outputs, 1, 5);
    const xla::Buffer &mean = buffer(call->outputs, 2, 2), &inverse = buffer(call->outputs, 3, 2);
    const Index c = y.dims[4];
    require_like(z, y);
    for (const auto* each : {&mean, &inverse}) require(each->dims[0] == y.dims[0] && each->dims[1] == c);
    require(z.dims[4] == c && scale.dims[0] == c && bias.dims[0] == c);
    const auto inputs = convolved<false>(call, n, y);
    const layers::Shape shape = voxels(y);
    const layers::Parallel parallel = on_threads_of(call);
    layers::Moments moments(shape, c, isa());
    layers::convolve(inputs, shape, write(y), c, parallel, false, isa(),
                  [&](Index s) { moments.add_slice(s, read(y) + s * shape.plane() * c); });
    moments.finish(write(mean), write(inverse));
    layers::normalize(shape, c, read(y), read(mean), read(inverse), read(scale), read(bias), slope, write(z), parallel, isa());
}

// (y, mean, inverse, scale, bias, g) -> the gradients in y, scale and bias.
inline void norm_gradient(const xla::Call* call) {
    const xla::Buffer &y = buffer(call->inputs, 0, 5), &mean = buffer(call->inputs, 1, 2), &inverse = buffer(call->inputs, 2, 2);
    const xla::Buffer &scale = buffer(call->inputs, 3, 1), &bias = buffer(call->inputs, 4, 1), &g = buffer(call->inputs, 5, 5);
    const xla::Buffer &dy = buffer(call->outputs, 0, 5), &dscale = buffer(call->outputs, 1, 1), &dbias = buffer(call->outputs, 2, 1);
    const Index c = y.dims[4];
    for (const auto* each : {&g, &dy}) {
        require_like(*each, y);
        require(each->dims[4] == c);
    }
    for (const auto* each : {&mean, &inverse}) require(each->dims[0] == y.dims[0] && each->dims[1] == c);
    for (const auto* each : {&scale, &bias, &dscale, &dbias}) require(each->dims[0] == c);
    layers::normalize_gradient(voxels(y), c, read(y), read(g), read(mean), read(inverse), read(scale), read(bias), slope, write(dy),
                             write(dscale), write(dbias), on_threads_of(call), isa());
}

// Side of the blocks that make y of x.
inline Index block_side(const xla::Buffer& x, const xla::Buffer& y) {
    require(y.dims[1] > 0 && x.dims[0] == y.dims[0] && x.dims[4] == y.dims[4]);
    const Index n = x.dims[1] / y.dims[1];
    for (int axis = 1; axis < 4; ++axis) require(x.dims[axis] == n * y.dims[axis]);
    return n;
}

// x -> the largest value of each block.
inline void max_pool(const xla::Call* call) {
    const xla::Buffer &x = buffer(call->inputs, 0, 5), &y = buffer(call->outputs, 0, 5);
    layers::max_pool(voxels(y), y.dims[4], block_side(x, y), read(x), write(y), on_threads_of(call), isa());
}

// (x, y, g) -> the gradient in x.
inline void max_pool_gradient(const xla::Call* call) {
    const xla::Buffer &x = buffer(call->inputs, 0, 5), &y = buffer(call->inputs, 1, 5), &g = buffer(call->inputs, 2, 5);
    const xla::Buffer& dx = buffer(call->outputs, 0, 5);
    const Index n = block_side(x, y);
    require(block_side(x, g) == n && block_side(dx, y) == n);
    layers::max_pool_gradient(voxels(y), y.dims[4], n, read(x), read(y), read(g), write(dx), on_threads_of(call), isa());
}

// (x, g) -> the gradient in the kernel.
inline void kernel_gradient(const xla::Call* call) {
    const xla::Buffer &x = buffer(call->inputs, 0, 5), &g = buffer(call->inputs, 1, 5), &k = buffer(call->outputs, 0, 5);
    require_like(x, g);
    require(k.dims[0] == 3 && k.dims[1] == 3 && k.dims[2] == 3 && k.dims[3] == x.dims[4] && k.dims[4] == g.dims[4]);
    layers::convolve_gradient(read(x), x.dims[4], read(g), g.dims[4], voxels(x), write(k), on_threads_of(call), isa());
}

// x -> every voxel as a block.
inline void upsample(const xla::Call* call) {
    const xla::Buffer &x = buffer(call->inputs, 0, 5), &y = buffer(call->outputs, 0, 5);
    layers::upsample(voxels(x), x.dims[4], block_side(y, x), read(x), write(y), on_threads_of(call), isa());
}

// g -> the sum over each block.
inline void upsample_gradient(const xla::Call* call) {
    const xla::Buffer &g = buffer(call->inputs, 0, 5), &dx = buffer(call->outputs, 0, 5);
    layers::upsample_gradient(voxels(dx), dx.dims[4], block_side(g, dx), read(g), write(dx), on_threads_of(call), isa());
}

inline Index count(const xla::Buffer& b) { return voxels(b).slices() * voxels(b).plane(); }

// (x, w) or (x, w, bias) -> x w + bias for each voxel.
inline void linear(const xla::Call* call) {
    const xla::Buffer &x = buffer(call->inputs, 0, 5), &w = buffer(call->inputs, 1, 2), &y = buffer(call->outputs, 0, 5);
    const float* bias = nullptr;
    if (call->inputs.size > 2) {
        const xla::Buffer& b = buffer(call->inputs, 2, 1);
        require(b.dims[0] == y.dims[4]);
        bias = read(b);
    }
    require_like(x, y);
    require(w.dims[0] == x.dims[4] && w.dims[1] == y.dims[4]);
    layers::linear(read(x), count(x), x.dims[4], read(w), bias, y.dims[4], write(y), on_threads_of(call), isa());
}

// (x, g) -> the gradients in w and the bias.
inline void linear_gradient(const xla::Call* call) {
    const xla::Buffer &x = buffer(call->inputs, 0, 5), &g = buffer(call->inputs, 1, 5);
    const xla::Buffer &dw = buffer(call->outputs, 0, 2), &db = buffer(call->outputs, 1, 1);
    require_like(x, g);
    require(dw.dims[0] == x.dims[4] && dw.dims[1] == g.dims[4] && db.dims[0] == g.dims[4]);
    layers::linear_gradient(read(x), count(x), x.dims[4], read(g), g.dims[4], write(dw), write(db), on_threads_of(call), isa());
}

inline const std::int32_t* read_labels(const xla::Buffers& buffers, std::int64_t i, const xla::Buffer& logits) {
    require(i < buffers.size && buffers.at[i]->rank == 4 && buffers.at[i]->dtype == xla::int32);
    require_like(*buffers.at[i], logits);
    return static_cast<const std::int32_t*>(buffers.at[i]->data);
}

// (logits, labels) -> the sums over voxels of each class.
template <bool squared>
void region_sums(const xla::Call* call) {
    const xla::Buffer &logits = buffer(call->inputs, 0, 5), &sums = buffer(call->outputs, 0, 2);
    const layers::Shape s = voxels(logits);
    const layers::LossSettings settings{logits.dims[4], squared};
    require(sums.dims[0] == settings.classes && sums.dims[1] == 4);
    layers::region_sums(read(logits), read_labels(call->inputs, 1, logits), s.slices(), s.plane(), settings, write(sums),
                      on_threads_of(call), isa());
}

// (logits, labels, g) -> the gradient in the logits.
template <bool squared>
void region_gradient(const xla::Call* call) {
    const xla::Buffer &logits = buffer(call->inputs, 0, 5), &g = buffer(call->inputs, 2, 2), &out = buffer(call->outputs, 0, 5);
    const layers::Shape s = voxels(logits);
    const layers::LossSettings settings{logits.dims[4], squared};
    require_like(out, logits);
    require(g.dims[0] == settings.classes && g.dims[1] == 4 && out.dims[4] == settings.classes);
    layers::region_gradient(read(logits), read_labels(call->inputs, 1, logits), s.slices(), s.plane(), settings, read(g), write(out),
                          on_threads_of(call), isa());
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
