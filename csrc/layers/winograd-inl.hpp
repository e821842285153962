// The inner loops of winograd.hpp, included by each_instruction_set.hpp after convolution-inl.hpp, whose vectors it
// uses. Channels are whole vectors everywhere.

template <int L>
KIDSEG_INLINE void column_of_tile(const float* const* rows, Index at, Lanes<L>* out) {
    Lanes<L> d[4];
    for (int i = 0; i < 4; ++i) load<L>(d[i], rows[i] + at);
    out[0] = d[0] - d[2], out[1] = d[1] + d[2], out[2] = d[2] - d[1], out[3] = d[1] - d[3];
}

// One row of tiles of B' d B: each 4x4 input pixels, of which the next tile shares two columns.
template <int L>
void input_tiles(const float* const* rows, Index width, Index channels, float* to, const Places& places) {
    for (Index c = 0; c < channels; c += L, to += L) {
        Lanes<L> a[4] = {}, b[4], next[4], after[4];
        column_of_tile<L>(rows, c, b);
        float* tile = to;
        for (Index x = 0; x < width; x += 2, tile += places.tile) {
            for (int i = 0; i < 4; ++i) next[i] = after[i] = Lanes<L>{};
            if (x + 1 < width) column_of_tile<L>(rows, (x + 1) * channels + c, next);
            if (x + 2 < width) column_of_tile<L>(rows, (x + 2) * channels + c, after);
            float* point = tile;
            for (int i = 0; i < 4; ++i, point += 4 * places.point) {
                store<L>(point, a[i] - next[i], L);
                store<L>(point + places.point, b[i] + next[i], L);
                store<L>(point + 2 * places.point, next[i] - b[i], L);
                store<L>(point + 3 * places.point, b[i] - after[i], L);
                a[i] = next[i], b[i] = after[i];
            }
        }
    }
}

// One row of tiles of A g A': each 2x2 pixels of a gradient.
template <int L>
void gradient_tiles(const float* const* rows, Index width, Index channels, float* to, const Places& places) {
    for (Index c = 0; c < channels; c += L, to += L) {
        float* tile = to;
        for (Index x = 0; x < width; x += 2, tile += places.tile) {
            Lanes<L> g[2][2] = {};
            for (int r = 0; r < 2; ++r) {
                load<L>(g[r][0], rows[r] + x * channels + c);
                if (x + 1 < width) load<L>(g[r][1], rows[r] + (x + 1) * channels + c);
            }
            const Lanes<L> of_row[4][2] = {{g[0][0], g[0][1]},
                                           {g[0][0] + g[1][0], g[0][1] + g[1][1]},
                                           {g[0][0] - g[1][0], g[0][1] - g[1][1]},
                                           {-g[1][0], -g[1][1]}};
            float* point = tile;
            for (int i = 0; i < 4; ++i, point += 4 * places.point) {
                store<L>(point, of_row[i][0], L);
                store<L>(point + places.point, of_row[i][0] + of_row[i][1], L);
                store<L>(point + 2 * places.point, of_row[i][0] - of_row[i][1], L);
                store<L>(point + 3 * places.point, -of_row[i][1], L);
            }
        }
    }
}

// G k G' of one 3x3 kernel for L output channels; taps lie `tap` floats apart, points `point`.
template <int L>
KIDSEG_INLINE void kernel_points(const Lanes<L>* k, float* to, Index point) {
    Lanes<L> of_row[4][3];
    for (int x = 0; x < 3; ++x) {
        const Lanes<L> ends = 0.5F * (k[x] + k[6 + x]), middle = 0.5F * k[3 + x];
        of_row[0][x] = k[x], of_row[1][x] = ends + middle, of_row[2][x] = ends - middle, of_row[3][x] = k[6 + x];
    }
    for (const auto& row : of_row) {
        const Lanes<L> ends = 0.5F * (row[0] + row[2]), middle = 0.5F * row[1];
        store<L>(to, row[0], L);
        store<L>(to + point, ends + middle, L);
        store<L>(to + 2 * point, ends - middle, L);
        store<L>(to + 3 * point, row[2], L);
        to += 4 * point;
    }
}

template <int L>
void kernel_weights(const KernelTaps& from, Index channels, float* to, Index point) {
    for (Index c = 0; c < channels; ++c, to += L) {
        Lanes<L> k[9] = {};
        for (int t = 0; t < 9; ++t) {
            const float* p = from.data + t * from.tap + c * from.channel;
            if (from.lane == 1) load<L>(k[t], p);
            else
                for (int lane = 0; lane < L; ++lane) k[t][lane] = p[lane * from.lane];
        }
        kernel_points<L>(k, to, point);
    }
}

constexpr int most_tiles = lanes >= 16 ? 16 : 12;

// Sums over slices and channels of tiles times weights, T tiles at a time, at eight channels a turn.
template <int L, int C, int... T>
KIDSEG_INLINE void product_channel(Lanes<L>* acc, const float* const* third, Index step, const float* w, Each<T...>) {
    Lanes<L> weight;
    load<L>(weight, w + C * L);
    ((acc[T] += third[T / 3][(T % 3) * step + C] * weight), ...);
    load_no_sooner();
}

template <int L, int T, int... C>
KIDSEG_INLINE void product_channels(Lanes<L>* acc, const float* const* third, Index step, const float* w, Each<C...>) {
    (product_channel<L, C>(acc, third, step, w, std::make_integer_sequence<int, T>{}), ...);
}

template <int L, int T>
void product_tiles(const Products& p, Index tile, Index n, float* m) {
    Lanes<L> acc[T] = {};
    for (Index s = 0; s < p.n; ++s) {
        constexpr int thirds = (T + 2) / 3;
        const float* third[thirds];
        for (int i = 0; i < thirds; ++i) third[i] = p.v[s] + (tile + 3 * i) * p.channels;
        const float* w = p.w[s];
        for (Index c = 0; c < p.channels; c += 8, w += 8 * L) {
            product_channels<L, T>(acc, third, p.channels, w, std::make_integer_sequence<int, 8>{});
            for (auto& each : third) each += 8;
        }
    }
    for (int i = 0; i < T; ++i)
        if (i < n) store<L>(m + i * L, acc[i], L);
}

template <int L, int T = most_tiles>
void product_up_to(const Products& p, Index tile, Index n, float* m) {
    if constexpr (T > 2) {
        if (n <= T - 2) return product_up_to<L, T - 2>(p, tile, n, m);
    }
    product_tiles<L, T>(p, tile, n, m);
}

// The tiles [first, last) into m (tile, lane).
template <int L>
void products(const Products& p, Index first, Index last, float* m) {
    for (Index left = (last - first + most_tiles - 1) / most_tiles; left > 0; --left) {
        const Index n = (last - first + left - 1) / left;
        product_up_to<L>(p, first, n, m);
        first += n, m += n * L;
    }
}

// A' m A of the tiles [first, last) as pixels of one slice.
template <int L>
void output_pixels(const float* m, Index point, Index first, Index last, const Shape& s, float* y, Index c_out) {
    const Index wide = (s.width + 1) / 2;
    for (Index tile = first; tile < last; ++tile, m += L) {
        const Index row = 2 * (tile / wide), x = 2 * (tile % wide);
        Lanes<L> top[4], low[4];
        for (int i = 0; i < 4; ++i) {
            Lanes<L> a, b, c, d;
            load<L>(a, m + i * point);
            load<L>(b, m + (4 + i) * point);
            load<L>(c, m + (8 + i) * point);
            load<L>(d, m + (12 + i) * point);
            top[i] = a + b + c;
            low[i] = b - c - d;
        }
        float* to = y + (row * s.width + x) * c_out;
        store<L>(to, top[0] + top[1] + top[2], L);
        if (x + 1 < s.width) store<L>(to + c_out, top[1] - top[2] - top[3], L);
        if (row + 1 == s.height) continue;
        to += s.width * c_out;
        store<L>(to, low[0] + low[1] + low[2], L);
        if (x + 1 < s.width) store<L>(to + c_out, low[1] - low[2] - low[3], L);
    }
}

template <int L, int CI, int... A>
KIDSEG_INLINE void add_outer(Lanes<L>* acc, const float* const* v, const Lanes<L>& g, Each<A...>) {
    ((acc[A] += v[A / CI][A % CI] * g), ...);
}

template <int L, int CI, int... A>
KIDSEG_INLINE void add_sums(const Lanes<L>* acc, float* sums, Index slice, Index c_out, Each<A...>) {
    (add_at<L>(sums + (A / CI) * slice + A % CI * c_out, acc[A]), ...);
}

// Adds to sums (slice, channel of x, channel of g) over the tiles of one point, N slices of x with one of g.
template <int L, int CI, int N>
void outer_products(const Outer& o, float* sums) {
    constexpr auto all = std::make_integer_sequence<int, N * CI>{};
    for (Index c = 0; c < o.c_in; c += CI) {
        Lanes<L> acc[N * CI] = {};
        const float* v[N];
        for (int i = 0; i < N; ++i) v[i] = o.v[i] + c;
        const float* g = o.g;
        for (Index tile = 0; tile < o.tiles; ++tile, g += o.c_out) {
            Lanes<L> here;
            load<L>(here, g);
            add_outer<L, CI>(acc, v, here, all);
            for (auto& each : v) each += o.c_in;
        }
        add_sums<L, CI>(acc, sums + c * o.c_out, o.c_in * o.c_out, o.c_out, all);
    }
}

template <int L>
void outer(const Outer& o, float* sums) {
    constexpr int channels = lanes >= 16 ? 8 : 4;
    if (o.n == 1) return outer_products<L, channels, 1>(o, sums);
    if (o.n == 2) return outer_products<L, channels, 2>(o, sums);
    outer_products<L, channels, 3>(o, sums);
}

// G' u G: the gradient of a 3x3 kernel from that of its 16 points, L output channels.
template <int L>
void kernel_taps(const float* u, Index point, float* to, Index tap) {
    Lanes<L> of_row[3][4];
    for (int i = 0; i < 4; ++i) {
        Lanes<L> a, b, c, d;
        load<L>(a, u + i * point);
        load<L>(b, u + (4 + i) * point);
        load<L>(c, u + (8 + i) * point);
        load<L>(d, u + (12 + i) * point);
        const Lanes<L> sum = 0.5F * (b + c);
        of_row[0][i] = a + sum, of_row[1][i] = 0.5F * (b - c), of_row[2][i] = sum + d;
    }
    for (const auto& row : of_row) {
        const Lanes<L> sum = 0.5F * (row[1] + row[2]);
        store<L>(to, row[0] + sum, L);
        store<L>(to + tap, 0.5F * (row[1] - row[2]), L);
        store<L>(to + 2 * tap, sum + row[3], L);
        to += 3 * tap;
    }
}

template <int L>
constexpr WinogradLoops winograd_loops{input_tiles<L>,   gradient_tiles<L>, kernel_weights<L>, products<L>,
                                       output_pixels<L>, outer<L>,          kernel_taps<L>};

template <>
[[nodiscard]] inline LoopsOfBlocks<WinogradLoops> loops() {
    return {lanes, narrow, winograd_loops<lanes>, winograd_loops<narrow>};
}
