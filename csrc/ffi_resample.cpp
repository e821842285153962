// Resampling as XLA custom calls on the CPU.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "argmax.hpp"
#include "ffi_buffers.hpp"
#include "resample.hpp"

namespace kidseg::calls {

namespace {

Taps3 taps_of(const Index3& shape, const Spacing& widths, const F32& cz, const F32& cy, const F32& cx) {
    Taps3 taps;
    const F32* axes[] = {&cz, &cy, &cx};
    for (std::size_t a = 0; a < 3; ++a) {
        const std::vector<double> c(axes[a]->typed_data(), axes[a]->typed_data() + axes[a]->element_count());
        if (!std::all_of(c.begin(), c.end(), [](double v) { return std::isfinite(v); }))
            throw std::invalid_argument("coordinates must be finite");
        taps[a] = kidseg::box_taps(c, shape[a], widths[a]);
    }
    return taps;
}

ffi::Error argmax_resample(F32 scores, F32 cz, F32 cy, F32 cx,
                           ffi::Result<ffi::Buffer<ffi::U8>> out, bool channels_last, std::int64_t threads) {
    return guarded([&] {
        const auto n = scores.dimensions();
        kidseg::Scores in;
        in.data = scores.typed_data();
        if (channels_last) {
            in.shape = {n[0], n[1], n[2]};
            in.stride = {n[1] * n[2] * n[3], n[2] * n[3], n[3]};
            in.classes = n[3];
            in.class_stride = 1;
        } else {
            in.shape = {n[1], n[2], n[3]};
            in.stride = {n[2] * n[3], n[3], 1};
            in.classes = n[0];
            in.class_stride = n[1] * n[2] * n[3];
        }
        kidseg::argmax_resample(in, taps_of(in.shape, {1, 1, 1}, cz, cy, cx), out->typed_data(), static_cast<int>(threads));
    });
}

ffi::Error resample_linear(F32 volume, F32 cz, F32 cy, F32 cx,
                           Floats out, ffi::Span<const double> widths, std::int64_t threads) {
    return guarded([&] {
        const auto n = volume.dimensions();
        const Grid<const float> in{volume.typed_data(), {n[0], n[1], n[2]}, {n[1] * n[2], n[2], 1}};
        kidseg::resample(in, taps_of(in.shape, spacing_of(widths), cz, cy, cx), out->typed_data(), static_cast<int>(threads));
    });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_argmax_resample, argmax_resample,
    ffi::Ffi::Bind().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<ffi::Buffer<ffi::U8>>().Attr<bool>("channels_last")
        .Attr<std::int64_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_resample_linear, resample_linear,
    ffi::Ffi::Bind().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().Attr<ffi::Span<const double>>("widths")
        .Attr<std::int64_t>("threads"));

}  // namespace kidseg::calls
