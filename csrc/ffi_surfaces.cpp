// Surface distances and points as XLA custom calls on the CPU.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "ffi_buffers.hpp"
#include "sampling.hpp"
#include "surface.hpp"

namespace kidseg::calls {

namespace {

BitGrid bits_of(const Buffer& mask, const Box& box) {
    BitGrid bits;
    by_width(mask, [&](auto zero) { bits = BitGrid(grid_of<const decltype(zero)>(mask), box); });
    return bits;
}

Box whole(const Buffer& mask) { return {{0, 0, 0}, grid_of<const char>(mask).shape}; }

ffi::Error surface_distances(Buffer a, Buffer b, Floats distances, Floats weights, Ints counts, ffi::Span<const double> spacing_mm,
                             std::int64_t definition, std::int64_t threads) {
    return guarded([&] {
        const auto pair = kidseg::surface_distances(bits_of(a, whole(a)), bits_of(b, whole(b)), spacing_of(spacing_mm),
                                                    static_cast<kidseg::Definition>(definition), static_cast<int>(threads));
        const auto capacity = static_cast<std::size_t>(distances->dimensions()[1]);
        std::fill_n(distances->typed_data(), 2 * capacity, 0.0f);
        std::fill_n(weights->typed_data(), 2 * capacity, 0.0f);
        std::size_t row = 0;
        for (const auto* side : {&pair.a_to_b, &pair.b_to_a}) {
            const std::size_t n = std::min(capacity, side->distance_mm.size());
            const auto narrow = [](double v) { return static_cast<float>(v); };
            std::transform(side->distance_mm.begin(), side->distance_mm.begin() + static_cast<std::ptrdiff_t>(n),
                           distances->typed_data() + row * capacity, narrow);
            std::transform(side->weight.begin(), side->weight.begin() + static_cast<std::ptrdiff_t>(n),
                           weights->typed_data() + row * capacity, narrow);
            counts->typed_data()[row++] = static_cast<std::int32_t>(side->distance_mm.size());
        }
    });
}

ffi::Error surface_points(Buffer mask, Floats points, std::int64_t seed, ffi::Span<const double> spacing_mm) {
    return guarded([&] {
        const auto spacing = spacing_of(spacing_mm);
        const auto found = kidseg::surface_points(bits_of(mask, whole(mask)), points->dimensions()[0], static_cast<std::uint64_t>(seed), spacing);
        std::fill_n(points->typed_data(), points->element_count(), std::numeric_limits<float>::quiet_NaN());
        for (std::size_t i = 0; i < found.size(); ++i)
            for (std::size_t a = 0; a < 3; ++a) points->typed_data()[3 * i + a] = static_cast<float>(found[i][a] - spacing[a]);
    });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_surface_distances, surface_distances,
    ffi::Ffi::Bind().Arg<Buffer>().Arg<Buffer>().Ret<F32>().Ret<F32>().Ret<I32>().Attr<ffi::Span<const double>>("spacing_mm")
        .Attr<std::int64_t>("definition").Attr<std::int64_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_surface_points, surface_points,
    ffi::Ffi::Bind().Arg<Buffer>().Ret<F32>().Attr<std::int64_t>("seed").Attr<ffi::Span<const double>>("spacing_mm"));

}  // namespace kidseg::calls
