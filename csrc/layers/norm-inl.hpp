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

inline void normalize(Tiles t, const float* __restrict y, const TiledNorm& norm, float* __restrict z) {
    const auto [mean, gain, bias, slope] = norm;
    for (Index k = 0; k < t.n; ++k, y += t.size, z += t.size)
        for (Index i = 0; i < t.size; ++i) {
            const float v = (y[i] - mean[i]) * gain[i] + bias[i];
            z[i] = v >= 0.0F ? v : v * slope;
        }
}

// sums += u and dots += u (y - mean), u being the gradient g behind the leaky ReLU.
inline void add_gradients(Tiles t, const float* __restrict y, const float* __restrict g, const TiledNorm& norm,
                          float* __restrict sums, float* __restrict dots) {
    const auto [mean, gain, bias, slope] = norm;
    for (Index k = 0; k < t.n; ++k, y += t.size, g += t.size)
        for (Index i = 0; i < t.size; ++i) {
            const float d = y[i] - mean[i];
            const float u = d * gain[i] + bias[i] >= 0.0F ? g[i] : g[i] * slope;
            sums[i] += u;
            dots[i] += u * d;
        }
}

// dy = gain (u - of_sum - (y - mean) of_dot).
inline void input_gradient(Tiles t, const float* __restrict y, const float* __restrict g, const TiledNorm& norm,
                           const float* __restrict of_sum, const float* __restrict of_dot, float* __restrict dy) {
    const auto [mean, gain, bias, slope] = norm;
    for (Index k = 0; k < t.n; ++k, y += t.size, g += t.size, dy += t.size)
        for (Index i = 0; i < t.size; ++i) {
            const float d = y[i] - mean[i];
            const float u = d * gain[i] + bias[i] >= 0.0F ? g[i] : g[i] * slope;
            dy[i] = gain[i] * (u - of_sum[i] - d * of_dot[i]);
        }
}

template <>
[[nodiscard]] inline NormInner loops() {
    return {add_values, add_squares, normalize, add_gradients, input_gradient};
}
