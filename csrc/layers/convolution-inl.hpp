// The inner loops of convolution.hpp, included by each_instruction_set.hpp.

template <int L>
struct Vector {
    typedef float type __attribute__((vector_size(L * sizeof(float))));
    typedef float anywhere __attribute__((vector_size(L * sizeof(float)), aligned(4), may_alias));
};
template <int L>
using Lanes = typename Vector<L>::type;
template <int... I>
using Each = std::integer_sequence<int, I...>;

template <int L>
KIDSEG_INLINE void load(Lanes<L>& v, const float* p) {
    v = *reinterpret_cast<const typename Vector<L>::anywhere*>(p);
}

template <int L>
KIDSEG_INLINE void store(float* p, const Lanes<L>& v, int valid) {
    if (valid == L) {
        *reinterpret_cast<typename Vector<L>::anywhere*>(p) = v;
    } else {
        const Lanes<L> in_memory = v;  // so that v itself may stay in a register
        std::memcpy(p, &in_memory, static_cast<std::size_t>(valid) * sizeof(float));
    }
}

// What is loaded after this is not loaded ahead of it: Clang would, and run out of registers for the sums.
KIDSEG_INLINE void load_no_sooner() { std::atomic_signal_fence(std::memory_order_seq_cst); }

template <int L>
KIDSEG_INLINE void add_at(float* p, const Lanes<L>& v) {
    Lanes<L> sum;
    load<L>(sum, p);
    sum += v;
    store<L>(p, sum, L);
}

// One input column meets the three outputs it reaches: one broadcast for three multiply-adds.
template <int L, int X, int I>
KIDSEG_INLINE void column(Lanes<L>* acc, const float* x, const Lanes<L>& w0, const Lanes<L>& w1, const Lanes<L>& w2) {
    if constexpr (I < X) acc[I] += x[I] * w0;
    if constexpr (I >= 1 && I <= X) acc[I - 1] += x[I] * w1;
    if constexpr (I >= 2) acc[I - 2] += x[I] * w2;
}

template <int L, int X, int... I>
KIDSEG_INLINE void columns(Lanes<L>* acc, const float* x, const float* w, Each<I...>) {
    Lanes<L> w0, w1, w2;
    load<L>(w0, w);
    load<L>(w1, w + L);
    load<L>(w2, w + 2 * L);
    (column<L, X, I>(acc, x, w0, w1, w2), ...);
}

template <int L, int... I>
KIDSEG_INLINE void store_columns(const Lanes<L>* acc, float* y, Index c_out, Index n, int valid, Each<I...>) {
    ((I < n ? store<L>(y + I * c_out, acc[I], valid) : void()), ...);
}

// X neighbouring outputs of one row, L channels each, summed over all taps in registers; the first n are kept.
template <int L, int X>
void forward_columns(const Tap* taps, Index n_taps, Index stride, Index x0, Index n, float* y, Index c_out, int valid) {
    Lanes<L> acc[X] = {};
    for (Index t = 0; t < n_taps; ++t) {
        const float* x = taps[t].x + x0;
        const float* w = taps[t].w;
        for (const float* end = w + taps[t].channels * 3 * L; w != end; w += 3 * L, x += stride)
            columns<L, X>(acc, x, w, std::make_integer_sequence<int, X + 2>{});
    }
    store_columns<L>(acc, y + x0 * c_out, c_out, n, valid, std::make_integer_sequence<int, X>{});
}

template <int L, int X = max_columns>
void forward_up_to(const Tap* taps, Index n_taps, Index stride, Index x0, Index n, float* y, Index c_out, int valid) {
    if constexpr (X > 2) {
        if (n <= X - 2) return forward_up_to<L, X - 2>(taps, n_taps, stride, x0, n, y, c_out, valid);
    }
    forward_columns<L, X>(taps, n_taps, stride, x0, n, y, c_out, valid);
}

template <int L>
void forward_row(const Tap* taps, Index n_taps, Index stride, Index width, float* y, Index c_out, int valid) {
    Index x0 = 0;
    for (Index left = (width + max_columns - 1) / max_columns; left > 0; --left) {
        const Index n = std::min(((width - x0 + left - 1) / left + 1) / 2 * 2, width - x0);
        forward_up_to<L>(taps, n_taps, stride, x0, n, y, c_out, valid);
        x0 += n;
    }
}

template <int L, int CI, int... C>
KIDSEG_INLINE void outer(Lanes<L>* acc, const float* x, const Lanes<L>& before, const Lanes<L>& here,
                         const Lanes<L>& after, Each<C...>) {
    ((acc[C] += x[C] * after, acc[CI + C] += x[C] * here, acc[2 * CI + C] += x[C] * before, load_no_sooner()), ...);
}

// Sums of x (CI channels) times g (L channels) over some rows, for the three taps along x at once.
template <int L, int CI, int... A>
KIDSEG_INLINE void gradient_block(const Rows& r, Index c0, float* sums, Each<A...>) {
    constexpr auto channels = std::make_integer_sequence<int, CI>{};
    Lanes<L> acc[3 * CI] = {};
    for (Index row = 0; row < r.n; ++row) {
        const float *p = r.x + row * r.width * r.c_in + c0, *q = r.g + row * r.width * r.c_out;
        Lanes<L> before = {}, here, after;
        load<L>(here, q);
        for (Index i = 1; i < r.width; ++i, p += r.c_in) {
            q += r.c_out;
            load<L>(after, q);
            outer<L, CI>(acc, p, before, here, after, channels);
            before = here;
            here = after;
        }
        after = Lanes<L>{};
        outer<L, CI>(acc, p, before, here, after, channels);
    }
    (add_at<L>(sums + ((A / CI) * r.c_in + c0 + A % CI) * r.c_out, acc[A]), ...);
}

template <int L, int CI = max_channels>
void gradient_rows(const Rows& r, float* sums, Index c0) {
    for (; c0 + CI <= r.c_in; c0 += CI) gradient_block<L, CI>(r, c0, sums, std::make_integer_sequence<int, 3 * CI>{});
    if constexpr (CI > 1) {
        if (c0 < r.c_in) gradient_rows<L, CI / 2>(r, sums, c0);
    }
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define KIDSEG_SHUFFLE 1
#endif
#endif

#if defined(KIDSEG_SHUFFLE)
// Eight pixels of eight channels, `channels` floats apart, as eight rows `stride` floats apart.
KIDSEG_INLINE void transpose_8x8(const float* from, Index channels, float* to, Index stride) {
    Lanes<8> r[8], t[8], s[8];
    for (int i = 0; i < 8; ++i) load<8>(r[i], from + i * channels);
    for (int i = 0; i < 8; i += 2) {
        t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int k = 0; k < 2; ++k) {
            s[i + 2 * k] = __builtin_shufflevector(t[i + k], t[i + 2 + k], 0, 1, 8, 9, 4, 5, 12, 13);
            s[i + 2 * k + 1] = __builtin_shufflevector(t[i + k], t[i + 2 + k], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; ++i) {
        store<8>(to + i * stride, __builtin_shufflevector(s[i], s[i + 4], 0, 1, 2, 3, 8, 9, 10, 11), 8);
        store<8>(to + (i + 4) * stride, __builtin_shufflevector(s[i], s[i + 4], 4, 5, 6, 7, 12, 13, 14, 15), 8);
    }
}
#endif

// A row (x, c) as c rows of `stride` floats, x from 1 on; zero around it.
inline void spread_row(const float* from, Index width, Index channels, float* to, Index stride) {
    Index done_x = 0, done_c = 0;
#if defined(KIDSEG_SHUFFLE)
    done_x = width / 8 * 8;
    done_c = channels / 8 * 8;
    for (Index c = 0; c < done_c; c += 8)
        for (Index x = 0; x < done_x; x += 8)
            transpose_8x8(from + x * channels + c, channels, to + c * stride + x + 1, stride);
#endif
    for (Index c = 0; c < channels; ++c, to += stride) {
        to[0] = 0.0F;
        for (Index x = c < done_c ? done_x : 0; x < width; ++x) to[x + 1] = from[x * channels + c];
        std::fill(to + width + 1, to + stride, 0.0F);
    }
}

#undef KIDSEG_SHUFFLE

template <int L>
constexpr ConvolutionLoops convolution_loops{spread_row, forward_row<L>, gradient_rows<L>};

template <>
[[nodiscard]] inline LoopsOfBlocks<ConvolutionLoops> loops() {
    return {lanes, narrow, convolution_loops<lanes>, convolution_loops<narrow>};
}
