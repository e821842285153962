// The inner loops of pooling.hpp, included by each_instruction_set.hpp.

// The largest of each n^3 block of one row of blocks: `rows` are the first of n z and n y rows.
inline void pool_row(const PoolRow& b, const float* __restrict x, float* __restrict y) {
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
inline void pool_gradient_row(const PoolRow& b, const float* __restrict x, const float* __restrict y,
                              const float* __restrict g, float* __restrict dx, float* __restrict left) {
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

// Each voxel of a row n times.
inline void repeat_row(const float* __restrict x, Index width, Index channels, Index n, float* __restrict y) {
    for (Index i = 0; i < width; ++i, x += channels)
        for (Index k = 0; k < n; ++k, y += channels)
            for (Index c = 0; c < channels; ++c) y[c] = x[c];
}

// dx += sums of n neighbours of a row.
inline void add_repeats(const float* __restrict g, Index width, Index channels, Index n, float* __restrict dx) {
    for (Index i = 0; i < width; ++i, dx += channels)
        for (Index k = 0; k < n; ++k, g += channels)
            for (Index c = 0; c < channels; ++c) dx[c] += g[c];
}

template <>
[[nodiscard]] inline PoolingInner loops() {
    return {pool_row, pool_gradient_row, repeat_row, add_repeats};
}
