// The inner loops of linear.hpp, included by each_instruction_set.hpp after convolution-inl.hpp.

// Neighbouring voxels times the weights (channel, lane), L output channels each, of which `stored` are written.
template <int L, int... I>
KIDSEG_INLINE void linear_voxels(const float* x, const LinearSizes& k, const float* w, const float* bias, float* y,
                                 int stored, Each<I...>) {
    Lanes<L> start, acc[sizeof...(I)], weight;
    load<L>(start, bias);
    ((acc[I] = start), ...);
    for (Index c = 0; c < k.c_in; ++c) {
        load<L>(weight, w + c * L);
        ((acc[I] += x[I * k.c_in + c] * weight), ...);
    }
    (store<L>(y + I * k.c_out, acc[I], stored), ...);
}

// n voxels. Where one block holds all channels, spare lanes run into voxels that are written later, up to the last few.
template <int L>
void linear(const float* x, Index n, const LinearSizes& k, const float* w, const float* bias, float* y, int valid) {
    const Index whole = k.c_out == valid ? n - (L - valid + valid - 1) / valid : 0;
    Index i = 0;
    for (; i + 8 <= n; i += 8)
        linear_voxels<L>(x + i * k.c_in, k, w, bias, y + i * k.c_out, i + 8 <= whole ? L : valid,
                         std::make_integer_sequence<int, 8>{});
    for (; i < n; ++i) linear_voxels<L>(x + i * k.c_in, k, w, bias, y + i * k.c_out, valid, Each<0>{});
}

// sums (channel, c_out) += x g over n voxels, for CI channels from c0 on; g may be read L lanes wide.
template <int L, int CI, int... C>
KIDSEG_INLINE void linear_gradient_block(const float* x, const float* g, Index n, const LinearSizes& k, Index c0,
                                         float* sums, Each<C...>) {
    Lanes<L> acc[CI] = {}, here;
    for (Index i = 0; i < n; ++i) {
        load<L>(here, g + i * k.c_out);
        ((acc[C] += x[i * k.c_in + c0 + C] * here), ...);
    }
    (add_at<L>(sums + (c0 + C) * k.stride, acc[C]), ...);
}

template <int L, int CI = 8>
void linear_gradient(const float* x, const float* g, Index n, const LinearSizes& k, Index c0, float* sums) {
    for (; c0 + CI <= k.c_in; c0 += CI)
        linear_gradient_block<L, CI>(x, g, n, k, c0, sums, std::make_integer_sequence<int, CI>{});
    if constexpr (CI > 1) {
        if (c0 < k.c_in) linear_gradient<L, CI / 2>(x, g, n, k, c0, sums);
    }
}

template <int L>
constexpr LinearLoops linear_loops{linear<L>, linear_gradient<L>};

template <>
[[nodiscard]] inline LoopsOfBlocks<LinearLoops> loops() {
    return {lanes, narrow, linear_loops<lanes>, linear_loops<narrow>};
}
