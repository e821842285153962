// Boxes, crops and pastes as XLA custom calls on the CPU.
#include <algorithm>
#include <cstdint>

#include "ffi_buffers.hpp"
#include "instances.hpp"
#include "roi.hpp"

namespace kidseg::calls {

namespace {

Index3 index_of(const I32& corner) {
    const std::int32_t* v = corner.typed_data();
    return {v[0], v[1], v[2]};
}

ffi::Error bounding_box(Buffer mask, Ints lo, Ints hi) {
    return guarded([&] {
        by_width(mask, [&](auto zero) {
            const auto box = kidseg::foreground_box(grid_of<const decltype(zero)>(mask));
            for (std::size_t a = 0; a < 3; ++a) {
                lo->typed_data()[a] = box ? static_cast<std::int32_t>(box->lo[a]) : 0;
                hi->typed_data()[a] = box ? static_cast<std::int32_t>(box->hi[a]) : 0;
            }
        });
    });
}

ffi::Error crop_roi(Buffer volume, I32 corner, Buffer fill, Result roi) {
    return guarded([&] {
        by_width(volume, [&](auto zero) {
            using T = decltype(zero);
            kidseg::crop(grid_of<const T>(volume), Box{index_of(corner), {}}, grid_of<T>(*roi), *static_cast<const T*>(fill.untyped_data()));
        });
    });
}

ffi::Error paste_roi(Buffer volume, Buffer roi, I32 corner, Result out) {
    return guarded([&] {
        by_width(volume, [&](auto zero) {
            using T = decltype(zero);
            const auto in = grid_of<const T>(volume);
            const auto to = grid_of<T>(*out);
            if (to.data != in.data) std::copy_n(in.data, volume.element_count(), to.data);
            kidseg::paste(to, Box{index_of(corner), {}}, grid_of<const T>(roi));
        });
    });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(kidseg_bounding_box, bounding_box, ffi::Ffi::Bind().Arg<Buffer>().Ret<I32>().Ret<I32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(kidseg_crop_roi, crop_roi, ffi::Ffi::Bind().Arg<Buffer>().Arg<I32>().Arg<Buffer>().Ret<Buffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(kidseg_paste_roi, paste_roi, ffi::Ffi::Bind().Arg<Buffer>().Arg<Buffer>().Arg<I32>().Ret<Buffer>());

}  // namespace kidseg::calls
