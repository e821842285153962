// The inner loops of loss.hpp, included by each_instruction_set.hpp. A tile holds `tile` voxels, class after class, so
// that the compiler vectorizes over voxels.

// e^x for x <= 0 to 2 units in the last place. Source: Cephes, expf.
inline void exponentials(float* __restrict v) {
    for (Index i = 0; i < tile; ++i) {
        const float x = v[i] > -87.0F ? v[i] : -87.0F;
        const float n = (x * 1.44269504F + 12582912.0F) - 12582912.0F;
        const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
        float p = 1.9875691500e-4F;
        p = p * r + 1.3981999507e-3F;
        p = p * r + 8.3334519073e-3F;
        p = p * r + 4.1665795894e-2F;
        p = p * r + 1.6666665459e-1F;
        p = p * r + 5.0000001201e-1F;
        const auto power = static_cast<std::int32_t>(n) + 127;
        const std::int32_t bits = power << 23;
        float scale;
        std::memcpy(&scale, &bits, sizeof(scale));
        v[i] = (p * r * r + r + 1.0F) * scale;
    }
}

// ln x for x >= 1 to 2 units in the last place. Source: Cephes, logf.
inline void logarithms(const float* __restrict v, float* __restrict out) {
    for (Index i = 0; i < tile; ++i) {
        std::int32_t bits;
        std::memcpy(&bits, &v[i], sizeof(bits));
        std::int32_t e = ((bits - 0x3f3504f3) >> 23);  // so that the mantissa lies in sqrt(1/2)..sqrt(2)
        const std::int32_t rest = bits - (e << 23);
        float m;
        std::memcpy(&m, &rest, sizeof(m));
        const float x = m - 1.0F, n = static_cast<float>(e), x2 = x * x;
        float p = 7.0376836292e-2F;
        p = p * x - 1.1514610310e-1F;
        p = p * x + 1.1676998740e-1F;
        p = p * x - 1.2420140846e-1F;
        p = p * x + 1.4249322787e-1F;
        p = p * x - 1.6668057665e-1F;
        p = p * x + 2.0000714765e-1F;
        p = p * x - 2.4999993993e-1F;
        p = p * x + 3.3333331174e-1F;
        out[i] = p * x * x2 - n * 2.12194440e-4F - 0.5F * x2 + x + n * 0.693359375F;
    }
}

// probs (class, voxel) and log_sum (voxel) of `n` voxels of logits (voxel, class); the rest of the tile is zero logits.
inline void softmax(const float* logits, Index n, Index classes, float* __restrict probs, float* __restrict log_sum) {
    std::fill_n(probs, classes * tile, 0.0F);
    for (Index i = 0; i < n; ++i)
        for (Index c = 0; c < classes; ++c) probs[c * tile + i] = logits[i * classes + c];
    float top[tile], sum[tile] = {};
    std::copy_n(probs, tile, top);
    for (Index c = 1; c < classes; ++c)
        for (Index i = 0; i < tile; ++i) top[i] = probs[c * tile + i] > top[i] ? probs[c * tile + i] : top[i];
    for (Index c = 0; c < classes; ++c) {
        float* p = probs + c * tile;
        for (Index i = 0; i < tile; ++i) p[i] -= top[i];
        exponentials(p);
        for (Index i = 0; i < tile; ++i) sum[i] += p[i];
    }
    logarithms(sum, log_sum);
    for (Index i = 0; i < tile; ++i) {
        log_sum[i] += top[i];
        sum[i] = 1.0F / sum[i];
    }
    for (Index c = 0; c < classes; ++c)
        for (Index i = 0; i < tile; ++i) probs[c * tile + i] *= sum[i];
}

// Adds the sums of n voxels to (class, [overlap, size, count, weighted -log p]), each as `tile` lanes.
inline void add_regions(const float* logits, const std::int32_t* labels, Index n, const LossSettings& s,
                        float* __restrict probs, float* __restrict sums) {
    float log_sum[tile];
    softmax(logits, n, s.classes, probs, log_sum);
    std::int32_t label[tile];
    std::fill_n(label, tile, -1);
    std::copy_n(labels, n, label);
    for (Index c = 0; c < s.classes; ++c) {
        const float* p = probs + c * tile;
        float *overlap = sums + 4 * c * tile, *size = overlap + tile, *count = size + tile;
        for (Index i = 0; i < n; ++i) size[i] += s.squared ? p[i] * p[i] : p[i];
        for (Index i = 0; i < tile; ++i) {
            const bool here = label[i] == static_cast<std::int32_t>(c);
            overlap[i] += here ? p[i] : 0.0F;
            count[i] += here ? 1.0F : 0.0F;
        }
    }
    for (Index i = 0; i < n; ++i) {
        const Index c = label[i];
        if (c >= 0 && c < s.classes) sums[(4 * c + 3) * tile + i] += log_sum[i] - logits[i * s.classes + c];
    }
}

// Gradient in n voxels of logits of sum(g * regions), g (class, [overlap, size, count, -log p]); the count has none.
inline void region_gradient(const float* logits, const std::int32_t* labels, Index n, const LossSettings& s,
                            const float* g, float* __restrict probs, float* __restrict slopes, float* __restrict out) {
    float log_sum[tile], dot[tile] = {}, nll[tile] = {};
    softmax(logits, n, s.classes, probs, log_sum);
    std::int32_t label[tile];
    std::fill_n(label, tile, -1);
    std::copy_n(labels, n, label);
    for (Index c = 0; c < s.classes; ++c) {
        const float *p = probs + c * tile, of_overlap = g[4 * c], of_size = g[4 * c + 1], of_nll = g[4 * c + 3];
        float* d = slopes + c * tile;
        for (Index i = 0; i < tile; ++i) {
            const bool here = label[i] == static_cast<std::int32_t>(c);
            d[i] = (here ? of_overlap : 0.0F) + of_size * (s.squared ? 2.0F * p[i] : 1.0F);
            dot[i] += p[i] * d[i];
            nll[i] += here ? of_nll : 0.0F;
        }
    }
    for (Index c = 0; c < s.classes; ++c) {
        const float* p = probs + c * tile;
        float* d = slopes + c * tile;
        for (Index i = 0; i < tile; ++i) {
            const float here = label[i] == static_cast<std::int32_t>(c) ? 1.0F : 0.0F;
            d[i] = p[i] * (d[i] - dot[i]) + nll[i] * (p[i] - here);
        }
    }
    for (Index i = 0; i < n; ++i)
        for (Index c = 0; c < s.classes; ++c) out[i * s.classes + c] = slopes[c * tile + i];
}

template <>
[[nodiscard]] inline LossInner loops() {
    return {add_regions, region_gradient};
}
