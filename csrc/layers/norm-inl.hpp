// The inner loops of norm.hpp, included by each_instruction_set.hpp. Rows of (x, c) floats are walked in tiles of
// whole pixels, with the coefficients of each channel repeated over a tile, so that the compiler vectorizes any c.

// sums += the tiles of y.
inline void add_values(Tiles t, const float* __restrict y, float* __restrict sums) {
    for (Index k = 0; k < t.n; ++k, y += t.size)
        for (Index i = 0; i < t.size; ++i) sums[i] += y[i];
}

// sums += the squares of y - mean.
inline void add_squares(Tiles t, const float* __restrict y, const float* __restrict mean, float* __restrict sums) {
    for (Index k = 0; k < t.n; ++k, y += t.size)
        for (Index i = 0; i < t.size; ++i) {
            const float d = y[i] - mean[i];
            sums[i] += d * d;
        }
}

inline void normalize(Tiles t, const float* __restrict y, const float* __restrict mean, const float* __restrict gain,
                      const float* __restrict bias, float slope, float* __restrict z) {
    for (Index k = 0; k < t.n; ++k, y += t.size, z += t.size)
        for (Index i = 0; i < t.size; ++i) {
            const float v = (y[i] - mean[i]) * gain[i] + bias[i];
            z[i] = v >= 0.0F ? v : v * slope;
        }
}

// sums += u and dots += u (y - mean), u being the gradient g behind the leaky ReLU.
inline void add_gradients(Tiles t, const float* __restrict y, const float* __restrict g, const float* __restrict mean,
                          const float* __restrict gain, const float* __restrict bias, float slope, float* __restrict sums,
                          float* __restrict dots) {
    for (Index k = 0; k < t.n; ++k, y += t.size, g += t.size)
        for (Index i = 0; i < t.size; ++i) {
            const float d = y[i] - mean[i];
            const float u = d * gain[i] + bias[i] >= 0.0F ? g[i] : g[i] * slope;
            sums[i] += u;
            dots[i] += u * d;
        }
}

// dy = gain (u - of_sum - (y - mean) of_dot).
inline void input_gradient(Tiles t, const float* __restrict y, const float* __restrict g, const float* __restrict mean,
                           const float* __restrict gain, const float* __restrict bias, float slope,
                           const float* __restrict of_sum, const float* __restrict of_dot, float* __restrict dy) {
    for (Index k = 0; k < t.n; ++k, y += t.size, g += t.size, dy += t.size)
        for (Index i = 0; i < t.size; ++i) {
            const float d = y[i] - mean[i];
            const float u = d * gain[i] + bias[i] >= 0.0F ? g[i] : g[i] * slope;
            dy[i] = gain[i] * (u - of_sum[i] - d * of_dot[i]);
        }
}

// The largest of each n^3 block of one row of blocks: `rows` are the first of n z and n y rows.
inline void pool_row(const Blocks& b, const float* __restrict x, float* __restrict y) {
    for (Index i = 0; i < b.width; ++i, y += b.channels) {
        const float* first = x + i * b.n * b.channels;
        for (Index c = 0; c < b.channels; ++c) y[c] = first[c];
        for (Index z = 0; z < b.n; ++z)
            for (Index r = 0; r < b.n; ++r)
                for (Index k = 0; k < b.n; ++k) {
                    const float* v = first + z * b.z_step + r * b.y_step + k * b.channels;
                    for (Index c = 0; c < b.channels; ++c) y[c] = v[c] > y[c] ? v[c] : y[c];
                }
    }
}

// g goes to the first voxel of each block that holds the block's largest value y; the others get zero.
inline void pool_gradient_row(const Blocks& b, const float* __restrict x, const float* __restrict y, const float* __restrict g,
                              float* __restrict dx, float* __restrict left) {
    for (Index i = 0; i < b.width; ++i, y += b.channels, g += b.channels) {
        for (Index c = 0; c < b.channels; ++c) left[c] = g[c];
        for (Index z = 0; z < b.n; ++z)
            for (Index r = 0; r < b.n; ++r)
                for (Index k = 0; k < b.n; ++k) {
                    const Index at = i * b.n * b.channels + z * b.z_step + r * b.y_step + k * b.channels;
                    for (Index c = 0; c < b.channels; ++c) {
                        const bool here = x[at + c] == y[c];
                        dx[at + c] = here ? left[c] : 0.0F;
                        left[c] = here ? 0.0F : left[c];
                    }
                }
    }
}

template <>
[[nodiscard]] inline NormInner loops<NormInner>() {
    return {add_values, add_squares, normalize, add_gradients, input_gradient, pool_row, pool_gradient_row};
}
